//! Logs: words for people, JSON for machines, always to standard error.
//!
//! What is logged is chosen by `IXGATE_LOG`, in the syntax of tracing's filters (`debug`, `info,ixgate::daemon=debug`).
//! Nothing on the packet path logs per packet, and nobody who logs waits for standard error (`queue`); secrets are
//! never logged.

mod queue;

use std::backtrace::Backtrace;
use std::env;
use std::io::{self, IsTerminal};
use std::panic;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use self::queue::LogQueue;

/// The environment variable with the filter.
pub const FILTER_VARIABLE: &str = "IXGATE_LOG";
/// boringtun (the sites of a demonstration) logs peers' keys and every handshake, hickory whatever an asker gets wrong; our
/// own events and counters say what matters.
const DEFAULT_FILTER: &str = "info,boringtun=off,hickory_proto=error";
/// How long the process waits, at its end, for the last lines to be written.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of words.
    #[default]
    Words,
    /// A JSON object per line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "{FILTER_VARIABLE} = \"{filter}\" is no filter: {reason}; for example: info, debug, info,ixgate::daemon=debug"
    )]
    Filter { filter: String, reason: String },
    #[error("logging is set up already")]
    Twice,
    #[error("no thread can be started to write the log: {0}; see `ulimit -u` and the memory that is left")]
    Thread(io::Error),
}

/// To be kept until the process ends: dropping it writes the lines that still wait, for at most a second.
#[must_use = "dropped at once, it leaves the last lines unwritten"]
pub struct LogGuard {
    queue: LogQueue,
    patience: Duration,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.flush(self.patience);
        self.queue.close();
    }
}

/// Sets up logging for the process. Panics are logged too, with their place, and written before the process goes on.
pub fn init(format: LogFormat) -> Result<LogGuard, LogError> {
    let filter = filter_from(env::var(FILTER_VARIABLE).ok())?;
    let is_terminal = io::stderr().is_terminal();
    let queue = LogQueue::start(io::stderr(), format.note_dropped()).map_err(LogError::Thread)?;
    let guard = LogGuard { queue: queue.clone(), patience: FLUSH_DEADLINE };
    let writer = queue.clone();
    tracing::dispatcher::set_global_default(dispatch(format, filter, move || writer.clone(), is_terminal))
        .map_err(|_| LogError::Twice)?;
    panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}\n{}", Backtrace::capture());
        queue.flush(FLUSH_DEADLINE); // the process may be about to abort
    }));
    Ok(guard)
}

impl LogFormat {
    /// What makes the line that tells of so many lines dropped.
    fn note_dropped(self) -> fn(u64) -> String {
        match self {
            LogFormat::Words => |lines| format!("{}  WARN {lines} log lines dropped: {WHY_DROPPED}\n", wall_clock()),
            LogFormat::Json => |lines| {
                let message = format!("{lines} log lines dropped: {WHY_DROPPED}");
                let line = serde_json::json!({
                    "timestamp": wall_clock(), "level": "WARN", "message": message, "dropped_lines": lines,
                });
                format!("{line}\n")
            },
        }
    }
}

const WHY_DROPPED: &str = "standard error did not take them in time";

/// The time as in every other line; empty if it cannot be told.
fn wall_clock() -> String {
    let mut words = String::new();
    match SystemTime.format_time(&mut Writer::new(&mut words)) {
        Ok(()) => words,
        Err(_) => String::new(),
    }
}

fn filter_from(variable: Option<String>) -> Result<EnvFilter, LogError> {
    let filter = variable.filter(|filter| !filter.trim().is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    if let Some(word) = filter.split(',').map(str::trim).find(|word| is_mistyped(word)) {
        let reason = format!("`{word}` is no level (error, warn, info, debug, trace, off)");
        return Err(LogError::Filter { filter: filter.clone(), reason });
    }
    EnvFilter::try_new(&filter).map_err(|error| LogError::Filter { filter, reason: error.to_string() })
}

/// A word by itself that is no level is a module to the filter, and all others are silent then.
fn is_mistyped(word: &str) -> bool {
    let is_word = !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    is_word && word != env!("CARGO_CRATE_NAME") && word.parse::<LevelFilter>().is_err()
}

fn dispatch<W>(format: LogFormat, filter: EnvFilter, writer: W, colours: bool) -> tracing::Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Words => builder.compact().with_target(false).finish().into(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).finish().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: Option<&str>) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let filter = filter_from(filter.map(str::to_owned)).unwrap();
        let dispatch = dispatch(format, filter, move || writer.clone(), false);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(realm = "region-a", "tunnel up");
            tracing::debug!("detail");
            tracing::info!(target: "boringtun::noise", "chatter");
        });
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn words_and_json() {
        let words = logged(LogFormat::Words, None);
        assert_eq!(words.lines().count(), 1, "{words}");
        assert!(words.contains("tunnel up") && words.contains("region-a"), "{words}");
        let json: serde_json::Value = serde_json::from_str(logged(LogFormat::Json, Some(" ")).trim()).unwrap();
        assert_eq!((json["message"].as_str(), json["realm"].as_str()), (Some("tunnel up"), Some("region-a")));
        assert_eq!(json["level"], "INFO");
    }

    #[test]
    fn lines_dropped_are_told_in_the_format_of_the_others() {
        let words = LogFormat::Words.note_dropped()(12);
        assert!(words.contains("WARN 12 log lines dropped") && words.ends_with('\n'), "{words}");
        let line = LogFormat::Json.note_dropped()(12);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((json["level"].as_str(), json["dropped_lines"].as_u64()), (Some("WARN"), Some(12)));
        assert!(json["timestamp"].as_str().is_some_and(|time| time.contains('T')), "{line}");
    }

    #[test]
    fn the_last_lines_are_written_before_the_guard_is_gone() {
        struct Slow(Paper);

        impl io::Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                std::thread::yield_now();
                self.0.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let paper = Paper::default();
        let queue = LogQueue::start(Slow(paper.clone()), LogFormat::Words.note_dropped()).unwrap();
        // Longer than any machine is busy: the time is not what is tested.
        let guard = LogGuard { queue: queue.clone(), patience: Duration::from_secs(600) };
        let filter = filter_from(None).unwrap();
        let dispatch = dispatch(LogFormat::Words, filter, move || queue.clone(), false);
        tracing::dispatcher::with_default(&dispatch, || (0..500).for_each(|n| tracing::info!("line {n}")));
        drop(guard);
        let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 500);
        assert!(written.lines().last().unwrap().ends_with("line 499"), "{written}");
    }

    #[test]
    fn the_filter_is_obeyed_and_a_bad_one_is_explained() {
        assert_eq!(logged(LogFormat::Words, Some("debug")).lines().count(), 3);
        assert_eq!(logged(LogFormat::Words, Some("error")), "");
        let error = filter_from(Some("ixgate=loud".to_owned())).unwrap_err().to_string();
        assert!(error.contains("IXGATE_LOG") && error.contains("ixgate=loud"), "{error}");
        for wrong in ["loud", "wran", "info, lout"] {
            let error = filter_from(Some(wrong.to_owned())).unwrap_err().to_string();
            assert!(error.contains("is no level (error, warn"), "{error}");
        }
        for right in ["warn", "WARN", "off", "3", "ixgate", "info,ixgate::daemon=debug", "info,boringtun=off", "debug,"]
        {
            assert!(filter_from(Some(right.to_owned())).is_ok(), "{right}");
        }
    }
}
