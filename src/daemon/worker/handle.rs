//! The other threads' end of the worker: what they may ask and tell, and how long they wait for it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::super::interfaces::Numbered;
use super::super::upstream::Answers;
use super::{Core, WorkerReport};
use crate::dataplane::report::{Pulse, Report, TunnelReports};
use crate::dns::forward::ExchangeId;
use crate::io::poller::Waker;
use crate::io::sockets::Sockets;
use crate::net::LinkReport;

/// Commands that may wait for the worker.
const COMMAND_QUEUE: usize = 64;
/// Of which a report tells at once: of IPsec some 300 us of the worker's time.
pub(super) const TUNNELS_AT_ONCE: usize = 64;
/// A configuration may come between two parts of a report, which then begins anew. (Not where reloads wait for whoever asks.)
const REPORT_TRIES: usize = 3;
/// How long a command may take, or a whole report: two orders of magnitude over the longest turn.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer from outside waits for room in the command queue; when there is none so long, it is lost.
const ANSWER_RETRIES: usize = 50;
const ANSWER_RETRY: Duration = Duration::from_millis(2);

/// Why the worker gave no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the packet path has too many questions waiting; try again")]
    Busy,
    #[error("the packet path does not answer; see the log, and restart ixgate if this lasts")]
    Silent,
    #[error("the configuration changed while it was asked for; try again")]
    Overtaken,
    #[error("the packet path has ended")]
    Gone,
    #[error("the packet path could not take the new ports: {0}")]
    Ports(io::ErrorKind),
}

/// The other threads' end. Cheap to clone.
pub struct Handle<C: Core> {
    commands: SyncSender<Command<C>>,
    waker: Waker,
}

pub(super) enum Command<C: Core> {
    /// A report without its tunnels,
    Outline(oneshot::Sender<WorkerReport>),
    /// and those with these numbers.
    Tunnels(Range<usize>, oneshot::Sender<TunnelReports>),
    Pulse(oneshot::Sender<Pulse>),
    Publish(Box<Publication<C>>, oneshot::Sender<Result<(), WorkerError>>),
    Link(LinkReport, Numbered),
    /// Of an interface that is another one of that name now.
    Adopt(Box<Sockets>, Numbered),
    /// The interface is gone, or is called otherwise.
    Close(Numbered),
    Outside(ExchangeId, Option<Vec<u8>>),
    Shutdown,
}

pub(super) struct Publication<C: Core> {
    pub snapshot: Arc<C::Snapshot>,
    pub sockets: Sockets,
    pub interfaces: Vec<Numbered>,
}

impl<C: Core> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Handle { commands: self.commands.clone(), waker: self.waker.clone() }
    }
}

impl<C: Core> Handle<C> {
    /// With the worker's end of the queue.
    pub(super) fn new(waker: Waker) -> (Self, Receiver<Command<C>>) {
        let (commands, served) = sync_channel(COMMAND_QUEUE);
        (Handle { commands, waker }, served)
    }

    /// Of ten thousand tunnels it would hold packets up for tens of milliseconds, so it is asked for in parts, between which they go
    /// on. All are of one configuration; what is told of tunnels is of a little later than the rest.
    pub async fn report(&self) -> Result<WorkerReport, WorkerError> {
        let report = async {
            for _ in 0..REPORT_TRIES {
                let mut report = self.ask(Command::Outline).await?;
                if self.add_tunnels(&mut report.path).await? {
                    return Ok(report);
                }
            }
            Err(WorkerError::Overtaken)
        };
        timeout(REPLY_TIMEOUT, report).await.unwrap_or(Err(WorkerError::Silent))
    }

    /// `false`: there is another configuration now.
    async fn add_tunnels(&self, report: &mut Report) -> Result<bool, WorkerError> {
        let mut numbers = 0..TUNNELS_AT_ONCE;
        loop {
            let part = self.ask_again(|reply| Command::Tunnels(numbers.clone(), reply)).await?;
            if part.generation != report.generation {
                return Ok(false);
            }
            report.tunnels.extend(part.tunnels);
            if part.are_last {
                return Ok(true);
            }
            numbers = numbers.end..numbers.end + TUNNELS_AT_ONCE;
        }
    }

    /// What has begun does not fail by one moment in which the queue is full.
    async fn ask_again<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command<C>) -> Result<T, WorkerError> {
        loop {
            match self.ask(&command).await {
                Err(WorkerError::Busy) => sleep(ANSWER_RETRY).await,
                answer => return answer,
            }
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command<C>) -> Result<T, WorkerError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        await_reply(answer).await
    }

    pub async fn pulse(&self) -> Result<Pulse, WorkerError> {
        self.ask(Command::Pulse).await
    }

    /// Returns when the worker runs on the new snapshot, with `sockets` beside those that it has, less the drivers of other
    /// interfaces than `interfaces`, whatever their number. On an error that is not [`WorkerError::Silent`] they are closed, and the old snapshot holds.
    pub async fn publish(
        &self,
        snapshot: Arc<C::Snapshot>,
        sockets: Sockets,
        interfaces: Vec<Numbered>,
    ) -> Result<(), WorkerError> {
        let publication = Box::new(Publication { snapshot, sockets, interfaces });
        self.ask(|reply| Command::Publish(publication, reply)).await?
    }

    /// How an interface is now. Blocks while there is no room; to be called from a thread of its own. Nothing happens where its
    /// number is another's by now; so it is with [`Handle::adopt`] and [`Handle::close_interface`].
    pub fn tell_link(&self, report: LinkReport, interface: Numbered) -> Result<(), WorkerError> {
        self.send_patiently(Command::Link(report, interface))
    }

    /// `sockets`, of this interface, take the place of those that there are. Blocks as [`Handle::tell_link`] does.
    pub fn adopt(&self, sockets: Sockets, interface: Numbered) -> Result<(), WorkerError> {
        self.send_patiently(Command::Adopt(Box::new(sockets), interface))
    }

    /// Its driver is of no use any more. Blocks as [`Handle::tell_link`] does.
    pub fn close_interface(&self, interface: Numbered) -> Result<(), WorkerError> {
        self.send_patiently(Command::Close(interface))
    }

    fn send_patiently(&self, command: Command<C>) -> Result<(), WorkerError> {
        self.commands.send(command).map_err(|_| WorkerError::Gone)?;
        self.waker.wake();
        Ok(())
    }

    /// Stop reading, send what is to be sent, end.
    pub fn shut_down(&self) -> Result<(), WorkerError> {
        self.send(Command::Shutdown)
    }

    pub(super) fn send(&self, command: Command<C>) -> Result<(), WorkerError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => WorkerError::Busy,
            TrySendError::Disconnected(_) => WorkerError::Gone,
        })?;
        self.waker.wake();
        Ok(())
    }
}

impl<C: Core> Answers for Handle<C> {
    async fn answer(&self, exchange: ExchangeId, bytes: Option<Vec<u8>>) {
        for _ in 0..ANSWER_RETRIES {
            match self.send(Command::Outside(exchange, bytes.clone())) {
                Err(WorkerError::Busy) => sleep(ANSWER_RETRY).await,
                _ => return,
            }
        }
    }
}

async fn await_reply<T>(answer: oneshot::Receiver<T>) -> Result<T, WorkerError> {
    match timeout(REPLY_TIMEOUT, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err(WorkerError::Gone),
        Err(_) => Err(WorkerError::Silent),
    }
}
