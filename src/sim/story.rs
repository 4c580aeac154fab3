//! What was tried and what came of it, as a table that needs no explanation.

use std::fmt;

use serde::Serialize;

/// Lines in the order in which things happened.
#[derive(Clone, Default, Debug)]
pub struct Story {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Where: a network, or the IX.
    pub who: String,
    pub tried: String,
    /// For people.
    pub happens: String,
    pub expected: String,
    pub got: String,
    pub is_as_agreed: bool,
}

impl Story {
    pub fn tell(&mut self, who: &str, tried: &str, expected: &str, got: &str) {
        self.tell_shown(who, tried, expected, got, got.to_owned());
    }

    /// With other words for `got`.
    pub fn tell_shown(&mut self, who: &str, tried: &str, expected: &str, got: &str, happens: String) {
        self.lines.push(Line {
            who: who.to_owned(),
            tried: tried.to_owned(),
            happens,
            expected: expected.to_owned(),
            got: got.to_owned(),
            is_as_agreed: expected == got,
        });
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub fn passed(&self) -> usize {
        self.lines.iter().filter(|line| line.is_as_agreed).count()
    }

    pub fn failed(&self) -> usize {
        self.lines.len() - self.passed()
    }

    /// A story without lines shows nothing, so it is not as agreed.
    pub fn is_as_agreed(&self) -> bool {
        !self.lines.is_empty() && self.failed() == 0
    }
}

/// The table, with a verdict on every line.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["in", "what is tried", "what happens"];
        let cells = |line: &Line| [line.who.clone(), line.tried.clone(), line.happens.clone()];
        let rows: Vec<[String; 3]> = self.lines.iter().map(cells).collect();
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.chain([head[column].len()]).max().unwrap_or_default()
        };
        let widths = [width(0), width(1), width(2)];
        write_row(f, &head.map(str::to_owned), widths, "")?;
        write_row(f, &widths.map(|width| "-".repeat(width)), widths, "")?;
        for (row, line) in rows.iter().zip(&self.lines) {
            match line.is_as_agreed {
                true => write_row(f, row, widths, "as agreed")?,
                false => write_row(f, row, widths, &format!("WRONG, expected: {}", line.expected))?,
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &[String; 3], widths: [usize; 3], verdict: &str) -> fmt::Result {
    let [a, b, c] = row;
    let line = format!("  {a:<0$}  {b:<1$}  {c:<2$}  {verdict}", widths[0], widths[1], widths[2]);
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_as_agreed_when_every_line_is_and_there_is_one() {
        let mut story = Story::default();
        assert!(!story.is_as_agreed());
        story.tell("a", "look", "1.2.3.4", "1.2.3.4");
        assert!(story.is_as_agreed());
        story.tell_shown("b", "knock", "closed", "open", "it opens".to_owned());
        assert_eq!((story.is_as_agreed(), story.passed(), story.failed()), (false, 1, 1));
        let table = story.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "  in  what is tried  what happens");
        assert_eq!(lines[2], "  a   look           1.2.3.4       as agreed");
        assert_eq!(lines[3], "  b   knock          it opens      WRONG, expected: closed");
    }
}
