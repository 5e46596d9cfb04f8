//! Sets up the log of a process: text for people or JSON for machines, on standard error.
//!
//! Every line that tells of an event carries the field `event` with a stable word; those of the core's notes are the
//! words of [`crate::history::word`]. The message after it is for people and may change.
//!
//! Lines go through a queue (`log_queue.rs`): a standard error that nobody reads stops no thread of the node.

use crate::config::{Log, LogFormat, LogLevel};
use crate::history::Event;
use crate::log_queue::LogQueue;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes what gets into the process's log.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// How long the end of a process waits for a standard error that takes nothing.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);

/// Dropped at the end of the process, also of one that panics: waits until what was logged is written.
#[derive(Debug)]
#[must_use]
pub struct LogEnd(Option<LogQueue>);

impl Drop for LogEnd {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.flush(FLUSH_TIME_MAX);
        }
    }
}

/// Sets the process's log up, once. A second call changes nothing: a process has one log.
pub fn init(log: Log) -> LogEnd {
    let queue = LogQueue::start(io::stderr(), tell_dropped).ok();
    let writer = match &queue {
        Some(queue) => BoxMakeWriter::new(queue.clone()),
        // A process that can have no thread has more to say than it can.
        None => BoxMakeWriter::new(io::stderr),
    };
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    // The error says that a log is set up already.
    let set_up = match log.format {
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(writer).with_target(false).with_ansi(io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_target(false).with_writer(writer)).try_init()
        }
    };
    if set_up.is_ok() {
        // Set once, as the log is.
        let _ = LEVEL.set(handle);
    }
    LogEnd(queue)
}

/// As an error, which gets into a log of every level.
fn tell_dropped(lines: u64) {
    tracing::error!(
        event = "log_lines_dropped",
        lines,
        "standard error took nothing for a while: lines of the log are lost"
    );
}

/// Changes the level of the process's log, if [`init`] has set it up.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get()
        && let Err(error) = handle.reload(filter(level))
    {
        tracing::warn!(event = "log_level_kept", %error, "the level of the log could not be changed");
    }
}

/// What gets into the log. The tree tells of each of its steps at `info`, thousands a minute: those are for whoever asks
/// for `debug` or more.
fn filter(level: LogLevel) -> Targets {
    let own = level_filter(level);
    let tree = if own > LevelFilter::INFO { own } else { own.min(LevelFilter::WARN) };
    Targets::new().with_default(own).with_target("lsm_tree", tree)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Logs an event of the history. Fields that say nothing are left out.
pub fn event(event: &Event) {
    let phases = (!event.phases_ms.is_empty()).then(|| serde_json::to_string(&event.phases_ms).unwrap_or_default());
    let (cause, evidence) = (said(&event.cause), said(&event.evidence));
    let worrying = ["refused_amnesiac", "cut", "lease_lost", "shrunk", "stopped_being_hot", "fenced"];
    if worrying.contains(&event.event.as_str()) {
        tracing::warn!(
            event = %event.event, node = %event.node, epoch = event.epoch, cause, evidence, phases_ms = phases,
            "{}", event.what
        );
    } else {
        tracing::info!(
            event = %event.event, node = %event.node, epoch = event.epoch, cause, evidence, phases_ms = phases,
            "{}", event.what
        );
    }
}

fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_core::Note;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_tree_is_quiet_unless_somebody_asks_for_more() {
        use tracing::Level;
        let shows = |level, target, of| filter(level).would_enable(target, &of);
        assert!(shows(LogLevel::Info, "hotwarm_node::storage", Level::INFO));
        assert!(!shows(LogLevel::Info, "lsm_tree::compaction", Level::INFO));
        assert!(shows(LogLevel::Info, "lsm_tree::compaction", Level::WARN));
        assert!(!shows(LogLevel::Error, "lsm_tree", Level::WARN));
        assert!(shows(LogLevel::Debug, "lsm_tree", Level::DEBUG));
        assert!(shows(LogLevel::Trace, "lsm_tree::compaction", Level::TRACE));
    }

    #[test]
    fn an_event_is_one_json_object_with_its_stable_word() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            event(&Event::of_note(&Note::LeaseLost, "a", 1, |node| node.to_string()));
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "lease_lost");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["node"], "a");
        assert_eq!(line.get("cause"), None, "what says nothing is left out: {text}");
    }
}
