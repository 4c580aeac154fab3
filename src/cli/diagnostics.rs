//! Shows a report about a configuration file to people: place, offending text underlined, why, remedy.

use std::fmt::{self, Write};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};

use crate::config::diagnostic::{Diagnostic, Report, Severity};

/// How the terminal likes it.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub color: bool,
    pub width_columns: usize,
}

impl Style {
    /// Colour only towards a terminal, and not where `NO_COLOR` asks for none (no-color.org).
    pub fn of_stderr() -> Self {
        use std::io::IsTerminal;
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Style { color, width_columns: 100 }
    }
}

/// All diagnostics of `report`, one after the other.
pub fn render(report: &Report, style: Style) -> String {
    let theme = if style.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(style.width_columns)
        .with_links(false)
        .with_context_lines(1)
        .without_syntax_highlighting();
    let mut out = String::new();
    for (i, diagnostic) in report.diagnostics.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let shown = Shown::new(diagnostic, report.source());
        // Without a source to show, or should drawing fail, plain text says the same.
        if report.source().is_empty() || handler.render_report(&mut out, &shown).is_err() {
            let _ = writeln!(out, "{diagnostic}");
        }
    }
    if report.omitted > 0 {
        let _ = writeln!(out, "and {} more", report.omitted);
    }
    out
}

/// A diagnostic as miette wants it.
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: Source<'a>,
    why: Option<Why>,
    labels: Vec<LabeledSpan>,
}

impl<'a> Shown<'a> {
    fn new(diagnostic: &'a Diagnostic, text: &'a str) -> Self {
        let mut labels = vec![LabeledSpan::new_primary_with_span(None, (diagnostic.span.offset, diagnostic.span.len))];
        for related in &diagnostic.related {
            let span = (related.span.offset, related.span.len);
            labels.push(LabeledSpan::new_with_span(Some(related.message.clone()), span));
        }
        let why = (!diagnostic.why.is_empty()).then(|| Why(diagnostic.why.clone()));
        Shown { diagnostic, source: Source { diagnostic, text }, why, labels }
    }
}

/// Shown as the cause.
#[derive(Debug)]
struct Why(String);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Why {}

struct Source<'a> {
    diagnostic: &'a Diagnostic,
    text: &'a str,
}

impl SourceCode for Source<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.read_span(span, before, after)?;
        // miette counts columns in bytes; we in characters, and both must say the same place.
        let ours = span.offset() == self.diagnostic.span.offset && before == 0;
        let column = if ours { self.diagnostic.column - 1 } else { found.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.diagnostic.file.clone(),
            found.data(),
            *found.span(),
            found.line(),
            column,
            found.line_count(),
        )))
    }
}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.diagnostic.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.message.fmt(f)
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.why.as_ref().map(|why| why as _)
    }
}
