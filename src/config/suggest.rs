//! "Did you mean …?": the known word that is nearest to a mistyped one.

/// The candidate that is nearest to `word`, if it is near enough to be a slip of the finger: at most a third of its
/// letters wrong (swapped neighbours count once), and at most three.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no slips; and the work stays bounded.
    const LONGEST: usize = 80;
    if word.len() > LONGEST {
        return None;
    }
    let allowed = (word.chars().count().div_ceil(3)).min(3);
    candidates
        .into_iter()
        .filter(|c| c.len().abs_diff(word.len()) <= 2 * allowed && c.len() <= LONGEST)
        .map(|c| (distance(word, c), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// The candidate that is `word` with the right unit behind it: `lifetime` or `lifetime_hours` for `lifetime_secs`.
fn with_unit<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const UNITS: [&str; 3] = ["_secs", "_bytes", "_packets"];
    const OTHERS: [&str; 8] = ["_sec", "_seconds", "_ms", "_minutes", "_hours", "_days", "_kb", "_mb"];
    let stem = OTHERS.iter().chain(&UNITS).find_map(|unit| word.strip_suffix(unit)).unwrap_or(word);
    candidates.into_iter().find(|c| c.strip_prefix(stem).is_some_and(|unit| UNITS.contains(&unit)))
}

/// `known` as a sentence for a remedy: the nearest one, or the whole list where it is short.
pub fn sentence<'a>(word: &str, what: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    const MOST_LISTED: usize = 12;
    if let Some(near) = nearest(word, known.clone()).or_else(|| with_unit(word, known.clone())) {
        return format!("did you mean `{near}`?");
    }
    let listed: Vec<_> = known.clone().take(MOST_LISTED).map(|k| format!("`{k}`")).collect();
    match listed.len() {
        0 => format!("there is no {what} in this file yet"),
        n if known.count() > n => format!("use one of the {what}s of this file: {}, …", listed.join(", ")),
        _ => format!("known {what}s: {}", listed.join(", ")),
    }
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitute = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitute.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        for (a, b, want) in [("", "", 0), ("abc", "", 3), ("netwroks", "networks", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), want, "{a} {b}");
            assert_eq!(distance(b, a), want, "{b} {a}");
        }
    }

    #[test]
    fn suggests_the_unit_that_a_key_has() {
        let known = ["remote", "ike_lifetime_secs", "child_lifetime_secs", "child_lifetime_bytes", "mtu_bytes"];
        for (word, want) in [
            ("ike_lifetime", "did you mean `ike_lifetime_secs`?"),
            ("child_lifetime_hours", "did you mean `child_lifetime_secs`?"),
            ("mtu", "did you mean `mtu_bytes`?"),
        ] {
            assert_eq!(sentence(word, "key", known.into_iter()), want);
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["name", "networks", "attach"];
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("network", keys), Some("networks"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"n".repeat(1000), keys), None);
        assert_eq!(sentence("zzz", "realm", ["a-b", "c-d"].into_iter()), "known realms: `a-b`, `c-d`");
        assert_eq!(sentence("zzz", "realm", [].into_iter()), "there is no realm in this file yet");
    }
}
