//! Between those who log and standard error: a queue of lines, and one thread that writes them.
//!
//! Standard error may be a pipe that nobody empties or a terminal on hold. Whoever logs must not wait for it, least of
//! all the packet path; so when [`LINES`] lines wait, further ones are dropped, and the next line that can be written
//! says how many.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that may wait to be written.
pub const LINES: usize = 4096;

/// Where to log to: every `write` is one line, never waits, and never fails. Cheap to clone.
#[derive(Clone)]
pub struct LogQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or the end has come.
    filled: Condvar,
    /// Everything has been written.
    emptied: Condvar,
}

struct State {
    lines: VecDeque<Vec<u8>>,
    dropped: u64,
    is_writing: bool,
    is_closed: bool,
}

impl LogQueue {
    /// Starts the thread. `note_dropped` makes the line that tells of so many lines dropped.
    pub fn start<W>(writer: W, note_dropped: fn(u64) -> String) -> io::Result<LogQueue>
    where
        W: Write + Send + 'static,
    {
        let state = State { lines: VecDeque::with_capacity(LINES), dropped: 0, is_writing: false, is_closed: false };
        let queue =
            LogQueue(Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }));
        let shared = queue.0.clone();
        thread::Builder::new()
            .name("ixgate-log".to_owned())
            .spawn(move || shared.write_all_to(writer, note_dropped))?;
        Ok(queue)
    }

    /// Waits until everything is written, at most so long. `false`: it is not.
    pub fn flush(&self, deadline: Duration) -> bool {
        let state = self.0.lock();
        let waited = self.0.emptied.wait_timeout_while(state, deadline, |state| !state.is_idle());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_idle()
    }

    /// Lets the thread end once everything is written.
    pub fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.filled.notify_one();
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let line_of_its_own = line.to_vec(); // before the lock is taken
        let mut state = self.0.lock();
        match state.lines.len() < LINES {
            true => state.lines.push_back(line_of_its_own),
            false => state.dropped += 1,
        }
        drop(state);
        self.0.filled.notify_one();
        Ok(line.len())
    }

    /// Nobody who logs waits; see [`LogQueue::flush`] for those who end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn write_all_to(&self, mut writer: impl Write, note_dropped: fn(u64) -> String) {
        while let Some((dropped, line)) = self.next() {
            // There is nowhere to complain to when standard error is gone.
            if dropped > 0 {
                let _ = writer.write_all(note_dropped(dropped).as_bytes());
            }
            let _ = writer.write_all(&line).and_then(|()| writer.flush());
        }
    }

    /// Waits for a line. `None`: closed, and everything is written.
    fn next(&self) -> Option<(u64, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            state.is_writing = false;
            if let Some(line) = state.lines.pop_front() {
                state.is_writing = true;
                return Some((std::mem::take(&mut state.dropped), line));
            }
            self.emptied.notify_all();
            if state.is_closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

    use super::*;

    /// Announces every line, then blocks until it is let through.
    struct Gate {
        written: Sender<String>,
        begun: Sender<()>,
        let_through: Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.let_through.recv(); // an error: the gate is open for good
            let _ = self.written.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        queue: LogQueue,
        written: Receiver<String>,
        begun: Receiver<()>,
        gate: SyncSender<()>,
    }

    fn blocked() -> Bench {
        let ((tell_written, written), (tell_begun, begun), (gate, let_through)) =
            (channel(), channel(), sync_channel(0));
        let writer = Gate { written: tell_written, begun: tell_begun, let_through };
        let queue = LogQueue::start(writer, |dropped| format!("{dropped} dropped\n")).unwrap();
        Bench { queue, written, begun, gate }
    }

    #[test]
    fn a_writer_that_blocks_holds_up_nobody_and_what_it_cost_is_told() {
        let Bench { mut queue, written, begun, gate } = blocked();
        queue.write_all(b"first\n").unwrap();
        begun.recv().unwrap(); // it is in the writer's hands, so the queue is empty
        for n in 0..LINES + 10 {
            writeln_at_once(&mut queue, n);
        }
        assert_eq!(queue.0.lock().lines.len(), LINES);
        assert!(!queue.flush(Duration::from_millis(10)), "it still blocks");

        drop(gate);
        assert!(queue.flush(Duration::from_secs(60)));
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(lines[..3], ["first\n", "10 dropped\n", "0\n"]);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (LINES + 2, "4095\n"));
        writeln_at_once(&mut queue, 7);
        assert!(queue.flush(Duration::from_secs(60)));
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["7\n"], "told once");
    }

    #[test]
    fn a_closed_queue_writes_what_it_has_and_ends() {
        let Bench { mut queue, written, begun: _begun, gate } = blocked();
        (0..3).for_each(|n| writeln_at_once(&mut queue, n));
        queue.close();
        drop(gate);
        // Ends when the thread has dropped the writer.
        assert_eq!(written.iter().collect::<Vec<_>>(), ["0\n", "1\n", "2\n"]);
    }

    fn writeln_at_once(queue: &mut LogQueue, n: usize) {
        queue.write_all(format!("{n}\n").as_bytes()).unwrap();
    }
}
