//! What is known of the interfaces that somebody follows, from the kernel's messages.

use std::collections::VecDeque;

use super::message::{Link, Message};
use crate::net::{InterfaceId, LinkReport, Mac};

/// How a followed interface is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct News {
    pub report: LinkReport,
    /// The kernel's number. `None`: there is no such interface.
    pub index: Option<u32>,
}

/// After [`Table::handle_message`], [`Table::begin_dump`] or [`Table::follow`], drain [`Table::poll_news`].
#[derive(Debug, Default)]
pub struct Table {
    followed: Vec<Followed>,
    /// At most one for each interface that is followed.
    news: VecDeque<InterfaceId>,
    is_dumping: bool,
    wants_dump: bool,
}

#[derive(Debug)]
struct Followed {
    interface: InterfaceId,
    name: String,
    link: Option<Link>,
    /// The dump that runs has shown it.
    seen: bool,
}

impl Table {
    /// From now on, these. Of each, news will come with the next dump.
    pub fn follow(&mut self, names: impl Iterator<Item = (InterfaceId, String)>) {
        let followed = names.map(|(interface, name)| Followed { interface, name, link: None, seen: false });
        self.followed = followed.collect();
        self.news.clear();
        self.handle_loss();
    }

    /// Whether all interfaces are to be asked for; then it begins. To be asked by a socket of its own, so that nothing of an
    /// earlier dump is taken for this one's.
    pub fn begin_dump(&mut self) -> bool {
        let begins = self.wants_dump && !self.is_dumping;
        if begins {
            (self.wants_dump, self.is_dumping) = (false, true);
            self.followed.iter_mut().for_each(|followed| followed.seen = false);
        }
        begins
    }

    /// The kernel lost messages for us, or answers no more.
    pub fn handle_loss(&mut self) {
        (self.wants_dump, self.is_dumping) = (true, false);
    }

    pub fn handle_message(&mut self, message: Message) {
        match message {
            Message::Link(link) => self.handle_link(&link),
            Message::LinkGone(index) => self.set(|followed| followed.is_at(index), None),
            Message::Done { is_consistent: true } if self.is_dumping => {
                self.is_dumping = false;
                // Those that were never seen are told of once, too.
                let unseen: Vec<_> = self.followed.iter().filter(|f| !f.seen).map(|f| f.interface).collect();
                self.set(|followed| !followed.seen, None);
                unseen.into_iter().for_each(|interface| self.tell(interface));
            }
            Message::Done { is_consistent: false } | Message::Failed(_) | Message::Overrun => self.handle_loss(),
            Message::Done { .. } => {}
        }
    }

    pub fn poll_news(&mut self) -> Option<News> {
        let interface = self.news.pop_front()?;
        let followed = self.followed.iter().find(|followed| followed.interface == interface)?;
        let gone = LinkReport { interface, is_up: false, mac: Mac::default(), mtu_bytes: 0 };
        let report = followed.link.as_ref().map_or(gone, |link| LinkReport {
            interface,
            is_up: link.is_up,
            mac: link.mac,
            mtu_bytes: link.mtu_bytes,
        });
        Some(News { report, index: followed.link.as_ref().map(|link| link.index) })
    }

    fn handle_link(&mut self, link: &Link) {
        // It was called otherwise before.
        self.set(|followed| followed.is_at(link.index) && followed.name != link.name, None);
        self.set(|followed| followed.name == link.name, Some(link));
    }

    fn set(&mut self, is_meant: impl Fn(&Followed) -> bool, link: Option<&Link>) {
        let mut changed = Vec::new();
        for followed in self.followed.iter_mut().filter(|followed| is_meant(followed)) {
            let is_new = followed.link.as_ref() != link || (link.is_some() && !followed.seen);
            followed.seen |= link.is_some();
            if followed.link.as_ref() != link {
                followed.link = link.cloned();
            }
            changed.extend(is_new.then_some(followed.interface));
        }
        changed.into_iter().for_each(|interface| self.tell(interface));
    }

    fn tell(&mut self, interface: InterfaceId) {
        if !self.news.contains(&interface) {
            self.news.push_back(interface);
        }
    }
}

impl Followed {
    fn is_at(&self, index: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.index == index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Message = Message::Done { is_consistent: true };

    fn link(index: u32, name: &str, is_up: bool) -> Message {
        Message::Link(Link { index, name: name.into(), is_up, mac: Mac([2; 6]), mtu_bytes: 1500 })
    }

    /// Follows eth1 as 0 and ix0 as 1.
    fn table() -> Table {
        let mut table = Table::default();
        let names = [(InterfaceId(0), "eth1".to_owned()), (InterfaceId(1), "ix0".to_owned())];
        table.follow(names.into_iter());
        assert!(table.begin_dump() && !table.begin_dump());
        table
    }

    /// Interface, kernel's number, up.
    fn news(table: &mut Table) -> Vec<(u8, Option<u32>, bool)> {
        let mut news: Vec<_> = std::iter::from_fn(|| table.poll_news())
            .map(|news| (news.report.interface.0, news.index, news.report.is_up))
            .collect();
        news.sort();
        news
    }

    fn handle(table: &mut Table, messages: impl IntoIterator<Item = Message>) -> Vec<(u8, Option<u32>, bool)> {
        messages.into_iter().for_each(|message| table.handle_message(message));
        news(table)
    }

    #[test]
    fn the_first_dump_tells_of_each_and_then_only_changes_are_told() {
        let mut table = table();
        let all = [link(1, "lo", true), link(4, "eth1", true), DONE];
        assert_eq!(handle(&mut table, all), [(0, Some(4), true), (1, None, false)]);
        assert_eq!(handle(&mut table, [link(4, "eth1", true), link(9, "eth9", true)]), []);
        assert_eq!(handle(&mut table, [link(4, "eth1", false)]), [(0, Some(4), false)]);
        let flapped = [link(4, "eth1", true), link(4, "eth1", false), link(4, "eth1", true)];
        assert_eq!(handle(&mut table, flapped), [(0, Some(4), true)], "the latest counts");
    }

    #[test]
    fn an_interface_that_goes_and_comes_has_another_number() {
        let mut table = table();
        handle(&mut table, [link(4, "eth1", true), DONE]);
        assert_eq!(handle(&mut table, [Message::LinkGone(7)]), []);
        assert_eq!(handle(&mut table, [Message::LinkGone(4)]), [(0, None, false)]);
        assert_eq!(handle(&mut table, [link(5, "eth1", true)]), [(0, Some(5), true)]);
        assert_eq!(handle(&mut table, [link(5, "wan", true)]), [(0, None, false)], "called otherwise");
        assert_eq!(handle(&mut table, [link(5, "eth1", true)]), [(0, Some(5), true)]);
    }

    #[test]
    fn after_a_loss_everything_is_asked_anew_and_what_was_missed_is_told() {
        let mut table = table();
        handle(&mut table, [link(4, "eth1", true), link(5, "ix0", true), DONE]);
        assert!(!table.begin_dump());
        for loss in [Message::Overrun, Message::Failed(16), Message::Done { is_consistent: false }] {
            assert_eq!(handle(&mut table, [loss]), []);
            assert!(table.begin_dump() && !table.begin_dump());
        }
        let missed = handle(&mut table, [link(4, "eth1", false), DONE]);
        assert_eq!(missed, [(0, Some(4), false), (1, None, false)]);
    }

    #[test]
    fn what_is_followed_no_more_is_not_told() {
        let mut table = table();
        table.handle_message(link(4, "eth1", true));
        table.follow([(InterfaceId(3), "ix0".to_owned())].into_iter());
        assert_eq!(news(&mut table), []);
        table.handle_message(DONE);
        assert_eq!(news(&mut table), [], "a dump that had begun before says nothing");
        assert!(table.begin_dump());
        assert_eq!(handle(&mut table, [link(4, "eth1", true), link(5, "ix0", true), DONE]), [(3, Some(5), true)]);
    }
}
