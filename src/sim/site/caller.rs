//! A host that has asked something and waits for the answer.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};

use super::{MAX_RESPONSE_BYTES, Progress};

pub(super) struct Caller {
    pub(super) handle: SocketHandle,
    transport: Transport,
    received: Vec<u8>,
}

enum Transport {
    Udp,
    /// The request waits for the connection.
    Tcp {
        unsent: Option<Vec<u8>>,
    },
}

impl Caller {
    /// The message is on its way already.
    pub(super) fn udp(handle: SocketHandle) -> Self {
        Caller { handle, transport: Transport::Udp, received: Vec::new() }
    }

    pub(super) fn tcp(handle: SocketHandle, request: &[u8]) -> Self {
        let transport = Transport::Tcp { unsent: Some(request.to_vec()) };
        Caller { handle, transport, received: Vec::new() }
    }

    pub(super) fn run(&mut self, sockets: &mut SocketSet<'static>) {
        match &mut self.transport {
            Transport::Udp => {
                if let Ok((answer, _)) = sockets.get_mut::<udp::Socket>(self.handle).recv() {
                    self.received = answer[..answer.len().min(MAX_RESPONSE_BYTES)].to_vec();
                }
            }
            Transport::Tcp { unsent } => {
                let socket = sockets.get_mut::<tcp::Socket>(self.handle);
                if socket.may_send()
                    && let Some(request) = unsent.take()
                {
                    let _ = socket.send_slice(&request); // fits: bounded when the call began
                }
                read(socket, &mut self.received);
                if socket.state() == tcp::State::CloseWait {
                    socket.close();
                }
            }
        }
    }

    pub(super) fn progress(&self, sockets: &SocketSet<'static>) -> Progress {
        match (self.is_over(sockets), self.received.is_empty()) {
            (false, _) => Progress::Waiting,
            (true, false) => Progress::Answered(self.received.clone()),
            (true, true) => Progress::Refused,
        }
    }

    fn is_over(&self, sockets: &SocketSet<'static>) -> bool {
        match &self.transport {
            Transport::Udp => !self.received.is_empty(),
            Transport::Tcp { unsent } => {
                let socket = sockets.get::<tcp::Socket>(self.handle);
                // While connecting nothing may be received either.
                let is_connecting = unsent.is_some();
                socket.state() == tcp::State::Closed || !is_connecting && !socket.may_recv()
            }
        }
    }
}

/// Everything that has arrived; an answer that is too long ends the connection.
fn read(socket: &mut tcp::Socket<'static>, received: &mut Vec<u8>) {
    while socket.can_recv() {
        let room = MAX_RESPONSE_BYTES - received.len();
        if room == 0 {
            return socket.abort();
        }
        let taken = socket.recv(|bytes| {
            let len = bytes.len().min(room);
            received.extend_from_slice(&bytes[..len]);
            (len, ())
        });
        if taken.is_err() {
            return;
        }
    }
}
