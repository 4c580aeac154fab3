//! Which of a realm's attachments carries its traffic now, and why: in words, for `status`.

use super::status::TunnelStatus;

/// Attachments that one sentence names.
const MAX_NAMED: usize = 3;

/// Says it in each of them. A realm with one attachment has nothing to say.
pub fn tell(tunnels: &mut [TunnelStatus]) {
    if tunnels.len() < 2 {
        return;
    }
    let roles: Vec<String> = (0..tunnels.len()).map(|index| role(index, tunnels)).collect();
    for (tunnel, role) in tunnels.iter_mut().zip(roles) {
        tunnel.role = role;
    }
}

fn role(index: usize, tunnels: &[TunnelStatus]) -> String {
    let this = &tunnels[index];
    let others = || tunnels.iter().enumerate().filter(move |(other, _)| *other != index).map(|(_, other)| other);
    let carriers: Vec<&TunnelStatus> = others().filter(|other| other.up && other.carries).collect();
    match (this.up, this.carries) {
        (true, true) if carriers.is_empty() => {
            let preferred: Vec<_> = others().filter(|other| !other.up && other.priority < this.priority).collect();
            match preferred.is_empty() {
                true => "carries everything: none is preferred to it".to_owned(),
                false => format!("carries everything: {} down", is_or_are(&preferred)),
            }
        }
        (true, true) => {
            let all: u32 = carriers.iter().map(|other| u32::from(other.weight)).sum::<u32>() + u32::from(this.weight);
            format!("carries {} of {all} shares of the flows, beside {}", this.weight, named(&carriers))
        }
        (true, false) if carriers.is_empty() => "up since this moment".to_owned(),
        (true, false) => format!("waits: {} preferred and up", is_or_are(&carriers)),
        (false, _) if carriers.is_empty() => "down, and so are all the others: nothing passes".to_owned(),
        (false, _) => format!("down: {} everything", carry(&carriers)),
    }
}

fn is_or_are(tunnels: &[&TunnelStatus]) -> String {
    format!("{} {}", named(tunnels), if tunnels.len() == 1 { "is" } else { "are" })
}

fn carry(tunnels: &[&TunnelStatus]) -> String {
    format!("{} {}", named(tunnels), if tunnels.len() == 1 { "carries" } else { "carry" })
}

fn named(tunnels: &[&TunnelStatus]) -> String {
    let names: Vec<String> = tunnels
        .iter()
        .take(MAX_NAMED)
        .map(|tunnel| format!("{} (priority {})", tunnel.peer, tunnel.priority))
        .collect();
    match tunnels.len().saturating_sub(MAX_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::three_realms;
    use super::super::status::Status;
    use super::*;

    /// (up, carries, priority, weight) of each; its role.
    fn roles(attachments: &[(bool, bool, u8, u8)]) -> Vec<String> {
        let status = Status::of(&three_realms(), std::time::Duration::from_secs(60));
        let one = &status.realms[0].tunnels[0];
        let tunnel = |(name, (up, carries, priority, weight)): (char, &(bool, bool, u8, u8))| TunnelStatus {
            peer: name.to_string(),
            up: *up,
            carries: *carries,
            priority: *priority,
            weight: *weight,
            ..one.clone()
        };
        let mut tunnels: Vec<_> = ('a'..).zip(attachments).map(tunnel).collect();
        tell(&mut tunnels);
        tunnels.into_iter().map(|tunnel| tunnel.role).collect()
    }

    #[test]
    fn one_attachment_has_nothing_to_say() {
        assert_eq!(roles(&[(true, true, 0, 1)]), [""]);
    }

    #[test]
    fn who_waits_is_told_for_whom_and_who_carries_because_of_whom() {
        assert_eq!(
            roles(&[(true, true, 1, 1), (true, false, 2, 1)]),
            ["carries everything: none is preferred to it", "waits: a (priority 1) is preferred and up"]
        );
        assert_eq!(
            roles(&[(false, false, 1, 1), (true, true, 2, 1)]),
            ["down: b (priority 2) carries everything", "carries everything: a (priority 1) is down"]
        );
        assert_eq!(
            roles(&[(false, true, 0, 1), (false, false, 1, 1)]),
            ["down, and so are all the others: nothing passes"; 2]
        );
    }

    #[test]
    fn those_that_share_are_told_their_shares() {
        assert_eq!(
            roles(&[(true, true, 1, 2), (true, true, 1, 1), (true, false, 2, 1), (false, false, 1, 4)]),
            [
                "carries 2 of 3 shares of the flows, beside b (priority 1)",
                "carries 1 of 3 shares of the flows, beside a (priority 1)",
                "waits: a (priority 1), b (priority 1) are preferred and up",
                "down: a (priority 1), b (priority 1) carry everything",
            ]
        );
        let many: Vec<_> = (0..6).map(|_| (true, true, 0, 1)).collect();
        assert!(roles(&many)[0].ends_with("b (priority 0), c (priority 0), d (priority 0) and 2 more"));
    }
}
