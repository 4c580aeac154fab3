//! A web server of one page.

use std::net::Ipv4Addr;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::{MAX_REQUEST_BYTES, tcp_socket};

pub(super) struct Server {
    handle: SocketHandle,
    host: Ipv4Addr,
    pub(super) port: u16,
    page: String,
    pub(super) accepted: u32,
    /// The connection that is open has been counted.
    is_counted: bool,
}

impl Server {
    pub(super) fn start(sockets: &mut SocketSet<'static>, host: Ipv4Addr, port: u16, page: &str) -> Self {
        let handle = sockets.add(tcp_socket());
        let mut server = Server { handle, host, port, page: page.to_owned(), accepted: 0, is_counted: false };
        server.listen(sockets);
        server
    }

    pub(super) fn run(&mut self, sockets: &mut SocketSet<'static>) {
        let state = sockets.get_mut::<tcp::Socket>(self.handle).state();
        // A fresh socket instead of waiting out TIME-WAIT: the next caller has another port. Looked at first, so that
        // the reset of what is aborted below is sent before its socket goes.
        if matches!(state, tcp::State::Closed | tcp::State::TimeWait) {
            sockets.remove(self.handle);
            self.handle = sockets.add(tcp_socket());
            self.listen(sockets);
        }
        let socket = sockets.get_mut::<tcp::Socket>(self.handle);
        if socket.is_active() && !self.is_counted {
            self.accepted += 1;
            self.is_counted = true;
        }
        if socket.may_send() {
            self.answer(socket);
        }
    }

    fn answer(&self, socket: &mut tcp::Socket<'static>) {
        let Ok(request) = socket.peek(MAX_REQUEST_BYTES) else { return };
        if request.windows(4).any(|end| end == b"\r\n\r\n") {
            let len = self.page.len();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\r\n");
            // Both fit: the buffer is larger than head and page together.
            let _ = socket.send_slice(head.as_bytes());
            let _ = socket.send_slice(self.page.as_bytes());
            socket.close();
        } else if request.len() == MAX_REQUEST_BYTES {
            socket.abort();
        }
    }

    fn listen(&mut self, sockets: &mut SocketSet<'static>) {
        self.is_counted = false;
        // A fresh socket on a port that is not 0: nothing is left that could fail.
        let _ = sockets.get_mut::<tcp::Socket>(self.handle).listen((self.host, self.port));
    }
}
