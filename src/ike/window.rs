//! Message IDs, one request at a time in each direction, and retransmission (RFC 7296 sections 2.1 to 2.3).
//!
//! Both windows have size 1: we never advertise a larger one, and never use one that the peer may offer. The last response
//! is kept as the bytes that were sent, because a retransmitted request must get exactly those again.

use super::half_open::MAX_REPEATS;
use super::limits::Retransmit;
use crate::net::Timestamp;
use crate::wire::ike::{ExchangeType, Header};

/// Our requests.
#[derive(Default)]
pub(super) struct Outgoing {
    next_id: u32,
    request: Option<Request>,
}

/// A request that waits for its response.
struct Request {
    id: u32,
    datagrams: Vec<Vec<u8>>,
    sent: u32,
    resend_at: Timestamp,
}

/// What time has brought.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Due<'a> {
    Nothing,
    /// Send these again.
    Resend(&'a [Vec<u8>]),
    /// All transmissions went unanswered.
    GiveUp,
}

impl Outgoing {
    /// The ID that the next request will carry.
    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    pub fn is_free(&self) -> bool {
        self.request.is_none()
    }

    /// How often the outstanding request has been sent.
    pub fn sent(&self) -> u32 {
        self.request.as_ref().map_or(0, |request| request.sent)
    }

    /// Takes the request with ID [`Outgoing::next_id`], just sent for the first time.
    pub fn begin(&mut self, datagrams: Vec<Vec<u8>>, resend_at: Timestamp) {
        debug_assert!(self.request.is_none());
        self.request = Some(Request { id: self.next_id, datagrams, sent: 1, resend_at });
        self.next_id = self.next_id.wrapping_add(1);
    }

    /// Another IKE_SA_INIT with the same ID 0, after COOKIE or INVALID_KE_PAYLOAD.
    pub fn begin_again(&mut self, datagrams: Vec<Vec<u8>>, resend_at: Timestamp) {
        let id = self.next_id.saturating_sub(1);
        self.request = Some(Request { id, datagrams, sent: 1, resend_at });
    }

    /// Whether a response with this ID and of this exchange answers the outstanding request: an exchange is a request and
    /// its response (section 1).
    pub fn awaits(&self, id: u32, exchange: ExchangeType) -> bool {
        let is_of = |request: &Request| {
            let asked = request.datagrams.first().and_then(|datagram| Header::peek(datagram));
            asked.is_some_and(|asked| asked.exchange == exchange)
        };
        self.request.as_ref().is_some_and(|request| request.id == id && is_of(request))
    }

    pub fn finish(&mut self) {
        self.request = None;
    }

    /// Waits for no answer any more. What was asked, in datagrams.
    pub fn abandon(&mut self) -> Vec<Vec<u8>> {
        self.request.take().map_or_else(Vec::new, |request| request.datagrams)
    }

    pub fn due_at(&self) -> Option<Timestamp> {
        self.request.as_ref().map(|request| request.resend_at)
    }

    /// `jitter`: 0 to 255, at most 10 % of the wait on top of it.
    pub fn due(&mut self, now: Timestamp, times: &Retransmit, jitter: u8) -> Due<'_> {
        match &mut self.request {
            Some(request) if request.resend_at <= now => {
                if request.sent >= times.sends {
                    return Due::GiveUp;
                }
                request.sent += 1;
                request.resend_at = now + jittered(times.wait(request.sent), jitter);
                Due::Resend(&request.datagrams)
            }
            _ => Due::Nothing,
        }
    }

    /// The IDs that IKE_SA_INIT used, for an SA that is the responder or was made by a rekey.
    pub fn starting_at(next_id: u32) -> Self {
        Outgoing { next_id, request: None }
    }
}

/// Up to 10 % longer.
pub(super) fn jittered(wait: std::time::Duration, jitter: u8) -> std::time::Duration {
    wait + wait / 2560 * u32::from(jitter)
}

/// Their requests.
#[derive(Default)]
pub(super) struct Incoming {
    expected: u32,
    /// The request that is being taken in, and the one that was answered last.
    noted: Digest,
    request: Digest,
    /// In how many fragments that came, 0 being none.
    noted_fragments: u16,
    request_fragments: u16,
    response: Vec<Vec<u8>>,
    /// Copies of the response that went elsewhere than to the peer's address.
    astray: u32,
}

/// Of a request's datagram (its first fragment): a retransmission has the same bytes.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(datagram: &[u8]) -> Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, datagram);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What a request's message ID says about it.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    New,
    /// Seen and answered, if it is the same request.
    Repeated,
    /// Older than the last, or further ahead than the window.
    Outside,
}

/// What to do with a request that was answered.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Repeat<'a> {
    Answer(&'a [Vec<u8>]),
    /// It has been answered often enough.
    Spent,
    /// It has the number of the one that was answered, and is not the same.
    Another,
}

impl Incoming {
    pub fn starting_at(expected: u32) -> Self {
        Incoming { expected, ..Incoming::default() }
    }

    pub fn arrival(&self, id: u32) -> Arrival {
        if id == self.expected {
            return Arrival::New;
        }
        match self.expected.checked_sub(1) == Some(id) && !self.response.is_empty() {
            true => Arrival::Repeated,
            false => Arrival::Outside,
        }
    }

    /// The answer to the last request, if this is it. `elsewhere`: it does not come from where the peer is known to be; then
    /// it is counted, and answered at most [`MAX_REPEATS`] times.
    pub fn repeat(&mut self, request: &Digest, elsewhere: bool) -> Repeat<'_> {
        match *request == self.request {
            true => self.again(elsewhere),
            false => Repeat::Another,
        }
    }

    /// The same, for an authentic message or first fragment with the number of the last request. It is that request if it
    /// was cut otherwise: whoever gets no answer may send a message again in smaller fragments (RFC 7383 section 2.5.2), and
    /// then only the first of them asks for the answer (section 2.6.1).
    pub fn repeat_recut(&mut self, fragments: u16, elsewhere: bool) -> Repeat<'_> {
        match fragments == self.request_fragments {
            true => Repeat::Another,
            false => self.again(elsewhere),
        }
    }

    fn again(&mut self, elsewhere: bool) -> Repeat<'_> {
        if elsewhere && self.astray >= MAX_REPEATS {
            return Repeat::Spent;
        }
        self.astray += u32::from(elsewhere);
        Repeat::Answer(&self.response)
    }

    /// The expected request, authentic, or the first of so many fragments of it.
    pub fn note(&mut self, datagram: &[u8], fragments: u16) {
        (self.noted, self.noted_fragments) = (digest(datagram), fragments);
    }

    /// The expected request was answered with this.
    pub fn answered(&mut self, response: Vec<Vec<u8>>) {
        (self.request, self.request_fragments) = (self.noted, self.noted_fragments);
        self.expected = self.expected.wrapping_add(1);
        self.response = response;
        self.astray = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::ike::emit_message;

    const TIMES: Retransmit = Retransmit { first: Duration::from_secs(1), longest: Duration::from_secs(4), sends: 4 };

    #[test]
    fn a_request_is_sent_again_at_growing_intervals_and_then_given_up() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(vec![vec![1]], Timestamp::from_secs(1));
        let mut sends = Vec::new();
        for second in 0..20 {
            match outgoing.due(Timestamp::from_secs(second), &TIMES, 0) {
                Due::Resend(datagrams) => sends.push((second, datagrams.to_vec())),
                Due::GiveUp => {
                    assert_eq!(second, 11);
                    break;
                }
                Due::Nothing => assert!(second < 11),
            }
        }
        assert_eq!(sends, [(1, vec![vec![1]]), (3, vec![vec![1]]), (7, vec![vec![1]])]);
    }

    #[test]
    fn jitter_is_at_most_a_tenth() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0), second);
        assert!(jittered(second, 255) > second + second / 12);
        assert!(jittered(second, 255) <= second + second / 10);
    }

    #[test]
    fn only_the_outstanding_id_is_a_response() {
        let header = Header::new((1, 2), ExchangeType::INFORMATIONAL, Default::default(), 7);
        let awaits = |outgoing: &Outgoing, id| outgoing.awaits(id, ExchangeType::INFORMATIONAL);
        let mut outgoing = Outgoing::starting_at(7);
        assert!(!awaits(&outgoing, 7));
        outgoing.begin(vec![emit_message(&header, &[])], Timestamp::ZERO);
        assert!(awaits(&outgoing, 7) && !awaits(&outgoing, 6) && !awaits(&outgoing, 8));
        assert!(!outgoing.awaits(7, ExchangeType::CREATE_CHILD_SA), "another exchange");
        outgoing.finish();
        assert!(!awaits(&outgoing, 7) && outgoing.is_free());
        assert_eq!(outgoing.next_id(), 8);
    }

    #[test]
    fn a_request_is_new_once_then_repeated_until_the_next() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.arrival(0), Arrival::New);
        assert_eq!(incoming.arrival(1), Arrival::Outside);
        incoming.note(b"first", 0);
        incoming.answered(vec![vec![9]]);
        assert_eq!(incoming.arrival(0), Arrival::Repeated);
        assert_eq!(incoming.repeat(&digest(b"first"), false), Repeat::Answer(&[vec![9]]));
        assert_eq!(incoming.arrival(1), Arrival::New);
        incoming.note(b"second", 3);
        incoming.answered(vec![vec![8]]);
        assert_eq!(incoming.arrival(0), Arrival::Outside);
        assert_eq!(incoming.arrival(1), Arrival::Repeated);
        assert_eq!(incoming.repeat(&digest(b"second"), false), Repeat::Answer(&[vec![8]]));
        assert_eq!(incoming.repeat(&digest(b"first"), false), Repeat::Another);
        assert_eq!(incoming.arrival(u32::MAX), Arrival::Outside);
        assert_eq!(incoming.repeat_recut(3, false), Repeat::Another, "cut alike, it would have been the same bytes");
        assert_eq!(incoming.repeat_recut(4, false), Repeat::Answer(&[vec![8]]));
        assert_eq!(incoming.repeat_recut(0, false), Repeat::Answer(&[vec![8]]), "the long one was late");
        for _ in 0..MAX_REPEATS {
            assert_eq!(incoming.repeat_recut(4, true), Repeat::Answer(&[vec![8]]));
        }
        assert_eq!(incoming.repeat_recut(4, true), Repeat::Spent);
    }
}
