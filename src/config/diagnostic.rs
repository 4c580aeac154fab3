//! What is wrong with a configuration file, where, why, and what to do about it.
//!
//! Reading and checking never stop at the first mistake: they hand every one to [`Problems`], which knows byte offsets
//! only. At the end [`Problems::finish`] turns them into [`Diagnostic`]s with lines and columns, in the order of the
//! file. Nothing that leaves here holds a secret: what looks like one that was pasted into the file is masked, in the
//! source that is kept for showing and in every sentence.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::pasted;

/// Most diagnostics that one report holds; the rest is only counted.
pub const MAX_DIAGNOSTICS: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// Bytes of the source, from `offset`, `len` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    pub offset: usize,
    pub len: usize,
}

/// Another place that has to do with the problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    pub message: String,
    pub line: usize,
    pub column: usize,
    pub span: Span,
}

/// One problem, with everything that a person or a program needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The offending text. Empty at offset 0 when the file as a whole is meant.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// Why that is a problem. May be empty where the message says it all.
    pub why: String,
    /// What to do.
    pub remedy: String,
    pub related: Vec<Related>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        if !self.why.is_empty() {
            write!(f, "\n  why: {}", self.why)?;
        }
        for related in &self.related {
            write!(f, "\n  see {}:{}:{}: {}", self.file, related.line, related.column, related.message)?;
        }
        write!(f, "\n  help: {}", self.remedy)
    }
}

/// Everything that was found in one file: at least one error, or only warnings.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// How many more there were than a report holds.
    pub omitted: usize,
    source: String,
}

impl Report {
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error)
    }

    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Warning)
    }

    /// The text of the file, for underlining. What looks like a secret in it is replaced by asterisks, byte for byte.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The offending text of `span`.
    pub fn text(&self, span: Span) -> &str {
        self.source.get(span.offset..span.offset + span.len).unwrap_or("")
    }

    /// A report about a file that could not even be read as text.
    pub(super) fn of_file(path: &Path, source: String, problem: Problem) -> Self {
        let mut problems = Problems::default();
        pasted::mask(&source, &mut problems);
        problems.list.push(problem);
        problems.finish(path, &source)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            diagnostic.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A problem that is still being described. Offsets only.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    warning: bool,
    span: Range<usize>,
    message: String,
    why: String,
    remedy: String,
    related: Vec<(Range<usize>, String)>,
}

impl Problem {
    pub fn error(span: &Range<usize>, message: impl Into<String>) -> Self {
        Problem { span: span.clone(), message: message.into(), ..Problem::default() }
    }

    pub fn why(&mut self, why: impl Into<String>) -> &mut Self {
        self.why = why.into();
        self
    }

    pub fn remedy(&mut self, remedy: impl Into<String>) -> &mut Self {
        self.remedy = remedy.into();
        self
    }

    /// Names another place in the file.
    pub fn also(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Self {
        self.related.push((span.clone(), message.into()));
        self
    }
}

/// Collects problems while a file is read and checked.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    masks: Vec<Range<usize>>,
    errors: usize,
    omitted: usize,
    /// Where problems beyond [`MAX_DIAGNOSTICS`] are described in vain.
    scratch: Problem,
}

impl Problems {
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.errors += 1;
        self.push(Problem::error(span, message))
    }

    pub fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.push(Problem { warning: true, ..Problem::error(span, message) })
    }

    /// Never show the bytes of `span` to anybody.
    pub fn mask(&mut self, span: Range<usize>) {
        self.masks.push(span);
    }

    /// How many errors so far: a caller compares before and after to know whether a part was sound.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    pub fn finish(mut self, path: &Path, source: &str) -> Report {
        self.list.sort_by_key(|p| (p.span.start, p.span.end, p.warning));
        let lines = LineIndex::new(source);
        let file = path.display().to_string();
        let diagnostics = self.list.into_iter().map(|p| locate(p, &file, &lines)).collect();
        Report { diagnostics, omitted: self.omitted, source: masked(source, &self.masks) }
    }

    fn push(&mut self, problem: Problem) -> &mut Problem {
        if self.list.len() < MAX_DIAGNOSTICS {
            self.list.push(problem);
            let last = self.list.len() - 1;
            &mut self.list[last]
        } else {
            self.omitted += 1;
            self.scratch = problem;
            &mut self.scratch
        }
    }
}

fn locate(problem: Problem, file: &str, lines: &LineIndex<'_>) -> Diagnostic {
    let (line, column) = lines.position(problem.span.start);
    Diagnostic {
        severity: if problem.warning { Severity::Warning } else { Severity::Error },
        file: file.to_owned(),
        line,
        column,
        span: span_of(&problem.span),
        message: pasted::conceal(&problem.message).into_owned(),
        why: pasted::conceal(&problem.why).into_owned(),
        remedy: pasted::conceal(&problem.remedy).into_owned(),
        related: problem
            .related
            .into_iter()
            .map(|(span, message)| {
                let (line, column) = lines.position(span.start);
                Related { message: pasted::conceal(&message).into_owned(), line, column, span: span_of(&span) }
            })
            .collect(),
    }
}

fn span_of(range: &Range<usize>) -> Span {
    Span { offset: range.start, len: range.len() }
}

/// `source` with the bytes of `masks` replaced by asterisks. Offsets and lines stay as they are.
fn masked(source: &str, masks: &[Range<usize>]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for byte in masks.iter().filter_map(|m| source.get(m.clone()).map(|_| m.clone())).flatten() {
        if bytes[byte] != b'\n' {
            bytes[byte] = b'*';
        }
    }
    // Whole characters were replaced by ASCII, so this is still UTF-8; if not, show nothing rather than a secret.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Finds line and column of a byte offset.
struct LineIndex<'a> {
    source: &'a str,
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    fn new(source: &'a str) -> Self {
        let after_breaks = source.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        LineIndex { source, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line.saturating_sub(1)];
        let before = self.source.get(start..offset).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let index = LineIndex::new("ab\nä = x\n");
        assert_eq!(index.position(0), (1, 1));
        assert_eq!(index.position(3), (2, 1));
        assert_eq!(index.position(6), (2, 3));
        assert_eq!(index.position(10), (3, 1));
        assert_eq!(index.position(999), (3, 1));
    }

    #[test]
    fn problems_come_out_in_the_order_of_the_file() {
        let mut problems = Problems::default();
        problems.error(&(4..5), "second").why("w").remedy("r").also(&(0..1), "here");
        problems.warning(&(0..1), "first");
        let report = problems.finish(Path::new("x.toml"), "a\nb\nc");
        assert_eq!(report.diagnostics[0].message, "first");
        assert_eq!((report.diagnostics[1].line, report.diagnostics[1].column), (3, 1));
        assert_eq!(
            report.diagnostics[1].to_string(),
            "x.toml:3:1: error: second\n  why: w\n  see x.toml:1:1: here\n  help: r"
        );
    }

    #[test]
    fn a_report_is_bounded_and_counts_what_it_leaves_out() {
        let mut problems = Problems::default();
        for i in 0..MAX_DIAGNOSTICS + 7 {
            problems.error(&(0..0), format!("{i}"));
        }
        assert_eq!(problems.error_count(), MAX_DIAGNOSTICS + 7);
        let report = problems.finish(Path::new("x"), "");
        assert_eq!((report.diagnostics.len(), report.omitted), (MAX_DIAGNOSTICS, 7));
        assert!(report.to_string().ends_with("and 7 more"));
    }

    #[test]
    fn masked_text_is_not_kept() {
        let mut problems = Problems::default();
        problems.mask(2..6);
        problems.mask(900..901);
        assert_eq!(problems.finish(Path::new("x"), "a bä\nc d").source(), "a ***\nc d");
    }
}
