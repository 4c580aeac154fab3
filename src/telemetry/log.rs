//! Logs: words for people, JSON for machines, always to standard error.
//!
//! What is logged is chosen by `IXGATE_LOG`, in the syntax of tracing's filters (`debug`, `info,ixgate::daemon=debug`).
//! Nothing on the packet path logs per packet; secrets are never logged.

use std::backtrace::Backtrace;
use std::env;
use std::io::{self, IsTerminal};
use std::panic;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable with the filter.
pub const FILTER_VARIABLE: &str = "IXGATE_LOG";
/// boringtun logs peers' keys and every handshake; our own events say what matters.
const DEFAULT_FILTER: &str = "info,boringtun=off";

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
}

/// Sets up logging for the process. Panics are logged too, with their place.
pub fn init(format: LogFormat) -> Result<(), LogError> {
    let filter = filter_from(env::var(FILTER_VARIABLE).ok())?;
    let is_terminal = io::stderr().is_terminal();
    panic::set_hook(Box::new(|panic| tracing::error!("{panic}\n{}", Backtrace::capture())));
    tracing::dispatcher::set_global_default(dispatch(format, filter, io::stderr, is_terminal))
        .map_err(|_| LogError::Twice)
}

fn filter_from(variable: Option<String>) -> Result<EnvFilter, LogError> {
    let filter = variable.filter(|filter| !filter.trim().is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    EnvFilter::try_new(&filter).map_err(|error| LogError::Filter { filter, reason: error.to_string() })
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
    fn the_filter_is_obeyed_and_a_bad_one_is_explained() {
        assert_eq!(logged(LogFormat::Words, Some("debug")).lines().count(), 3);
        assert_eq!(logged(LogFormat::Words, Some("error")), "");
        let error = filter_from(Some("ixgate=loud".to_owned())).unwrap_err().to_string();
        assert!(error.contains("IXGATE_LOG") && error.contains("ixgate=loud"), "{error}");
    }
}
