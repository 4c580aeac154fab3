//! Frames that wait in the socket's queue for slots that say so: each goes with its own slot, whatever could not be read before.

use std::io;

/// Errors that may stand before a message.
const MAX_PENDING_ERRORS: usize = 4;

#[derive(Debug, Default)]
pub struct Queue {
    /// Messages whose slots were given up.
    orphans: usize,
}

impl Queue {
    /// The length of the next slot's message, by `receive`, which gives it and whether it was cut off. `None`: it is not to be had.
    pub fn fetch(&mut self, mut receive: impl FnMut() -> io::Result<(usize, bool)>) -> Option<usize> {
        let mut errors = 0;
        while errors < MAX_PENDING_ERRORS {
            match receive() {
                Ok(_) if self.orphans > 0 => self.orphans -= 1,
                Ok((len, is_cut)) => return (!is_cut).then_some(len),
                // Nothing waits, of any slot.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.orphans = 0;
                    return None;
                }
                // "Network is down" stands before it.
                Err(_) => errors += 1,
            }
        }
        self.orphans += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a message's length stands for: which slot it belongs to.
    fn fetch(queue: &mut Queue, script: &mut Vec<io::Result<(usize, bool)>>) -> Option<usize> {
        queue.fetch(|| if script.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { script.remove(0) })
    }

    fn down() -> io::Result<(usize, bool)> {
        Err(io::Error::from_raw_os_error(libc::ENETDOWN))
    }

    #[test]
    fn an_error_before_a_message_is_passed_over() {
        let mut script = vec![down(), Ok((1, false)), Ok((2, true)), Ok((3, false))];
        let mut queue = Queue::default();
        assert_eq!([(); 4].map(|()| fetch(&mut queue, &mut script)), [Some(1), None, Some(3), None]);
    }

    #[test]
    fn after_a_slot_that_was_given_up_the_next_gets_its_own_message() {
        let mut script: Vec<_> = (0..2 * MAX_PENDING_ERRORS).map(|_| down()).collect();
        script.extend([Ok((1, false)), Ok((2, false)), Ok((3, false))]);
        let mut queue = Queue::default();
        assert_eq!([(); 4].map(|()| fetch(&mut queue, &mut script)), [None, None, Some(3), None]);
    }

    #[test]
    fn an_empty_queue_owes_nothing() {
        let mut queue = Queue::default();
        assert_eq!(fetch(&mut queue, &mut (0..MAX_PENDING_ERRORS).map(|_| down()).collect()), None);
        assert_eq!(fetch(&mut queue, &mut Vec::new()), None);
        assert_eq!(fetch(&mut queue, &mut vec![Ok((2, false))]), Some(2));
    }
}
