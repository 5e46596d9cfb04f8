//! Tells the operator's own tools of each change of role: a command, a webhook, or both.
//!
//! One task takes events from a bounded queue, in order, so that a slow hook delays the next hook and never the node.
//! The command is run without a shell, with the event as JSON on its input and its main fields in its environment;
//! its output is discarded, and it is killed after `TIME_MAX`. The webhook gets the same JSON by POST and is tried
//! `WEBHOOK_TRIES_MAX` times. A hook that fails is logged and counted: roles do not wait for hooks.

use crate::config::{OnChange, Webhook};
use crate::history::Event;
use crate::metrics::Metrics;
use crate::run::GUARDED;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that may wait; one more is dropped and counted.
const QUEUE_COUNT_MAX: usize = 256;
/// How long one run of a hook may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How often a webhook is tried, in all.
const WEBHOOK_TRIES_MAX: u32 = 3;
/// Pause before the second try; doubled before each further one.
const WEBHOOK_BACK_OFF: Duration = Duration::from_millis(500);

/// Why a hook did not get an event.
#[derive(Debug)]
pub enum HookError {
    /// The command could not be started.
    Start(std::io::Error),
    /// It ended with this status.
    Failed(std::process::ExitStatus),
    /// It took longer than 30 s and was killed.
    TooLong,
    /// The webhook could not be reached, or the connection broke.
    Unreachable(String),
    /// The webhook answered with this status.
    Answered(u16),
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "it could not be started: {error}"),
            Self::Failed(status) => write!(f, "it ended with {status}"),
            Self::TooLong => write!(f, "it took longer than {}s", TIME_MAX.as_secs()),
            Self::Unreachable(why) => write!(f, "it could not be reached: {why}"),
            Self::Answered(status) => write!(f, "it answered with HTTP status {status}"),
        }
    }
}

impl std::error::Error for HookError {}

/// Where events are handed in.
#[derive(Clone, Debug)]
pub struct Hooks {
    queue: Sender<Event>,
    on_change: Arc<Mutex<OnChange>>,
    metrics: Arc<Metrics>,
}

impl Hooks {
    /// Starts the task that runs the hooks; it ends when the last clone of the handle is dropped. Needs a tokio
    /// runtime around it.
    #[must_use]
    pub fn start(on_change: OnChange, metrics: Arc<Metrics>) -> Self {
        let (queue, events) = channel(QUEUE_COUNT_MAX);
        let on_change = Arc::new(Mutex::new(on_change));
        tokio::spawn(run(Arc::clone(&on_change), events, Arc::clone(&metrics)));
        Self { queue, on_change, metrics }
    }

    /// Calls other hooks from the next event on.
    pub fn follow(&self, on_change: OnChange) {
        *self.on_change.lock().unwrap_or_else(PoisonError::into_inner) = on_change;
    }

    /// Hands an event in. Returns at once; what does not change a role is passed over.
    pub fn tell(&self, event: &Event) {
        if event.changes_role() && self.queue.try_send(event.clone()).is_err() {
            self.metrics.hook_failures.inc();
            tracing::warn!(event = "hook_dropped", "too many changes of role wait for the hooks");
        }
    }
}

async fn run(on_change: Arc<Mutex<OnChange>>, mut events: Receiver<Event>, metrics: Arc<Metrics>) {
    while let Some(event) = events.recv().await {
        let on_change = on_change.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let body = serde_json::to_vec(&event).unwrap_or_default();
        if let Some(command) = &on_change.command
            && let Err(error) = run_command(command, &event, &body).await
        {
            metrics.hook_failures.inc();
            tracing::warn!(event = "hook_failed", hook = %command[0], %error, "a hook failed");
        }
        if let Some(webhook) = &on_change.webhook
            && let Err(error) = call_webhook(webhook, &body).await
        {
            metrics.hook_failures.inc();
            tracing::warn!(event = "hook_failed", hook = %webhook.authority, %error, "a hook failed");
        }
    }
}

/// The program of a hook, with the event in its environment.
fn command_of(program: &[String], event: &Event) -> Command {
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        // A hook that starts a node of its own must give it a guardian.
        .env_remove(GUARDED)
        .env("HOTWARM_EVENT", &event.event)
        .env("HOTWARM_NODE", &event.node)
        .env("HOTWARM_EPOCH", event.epoch.unwrap_or(0).to_string())
        .env("HOTWARM_CAUSE", &event.cause)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run_command(command: &[String], event: &Event, body: &[u8]) -> Result<(), HookError> {
    let mut child = command_of(command, event).spawn().map_err(HookError::Start)?;
    let finished = async {
        if let Some(mut input) = child.stdin.take() {
            // A command that does not read its input is no failure.
            let _ = input.write_all(body).await;
        }
        child.wait().await.map_err(HookError::Start)
    };
    match tokio::time::timeout(TIME_MAX, finished).await {
        Ok(status) => status.and_then(|status| if status.success() { Ok(()) } else { Err(HookError::Failed(status)) }),
        Err(_) => Err(HookError::TooLong),
    }
}

async fn call_webhook(webhook: &Webhook, body: &[u8]) -> Result<(), HookError> {
    let mut back_off = WEBHOOK_BACK_OFF;
    let mut tries = 1;
    loop {
        let tried = tokio::time::timeout(TIME_MAX, post(webhook, body)).await.unwrap_or(Err(HookError::TooLong));
        match tried {
            Err(_) if tries < WEBHOOK_TRIES_MAX => {
                tokio::time::sleep(back_off).await;
                back_off *= 2;
                tries += 1;
            }
            ended => return ended,
        }
    }
}

async fn post(webhook: &Webhook, body: &[u8]) -> Result<(), HookError> {
    let unreachable = |error: &dyn fmt::Display| HookError::Unreachable(error.to_string());
    let stream = TcpStream::connect(&webhook.authority).await.map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    let driving = tokio::spawn(connection);
    let request = Request::post(&webhook.path)
        .header(HOST, &webhook.authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .map_err(|error| unreachable(&error))?;
    let answered = sender.send_request(request).await.map_err(|error| unreachable(&error));
    driving.abort();
    let status = answered?.status();
    if status.is_success() { Ok(()) } else { Err(HookError::Answered(status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_core::Note;
    use hotwarm_core::register::Cause;
    use hotwarm_types::Epoch;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    fn became_hot() -> Event {
        let cause = Cause { word: "crash_attested".to_owned(), evidence: String::new() };
        let zero = Duration::ZERO;
        let note = Note::BecameHot { epoch: Epoch(8), cause, polled: zero, chosen: zero, started: zero };
        Event::of_note(&note, "b", 1, |node| node.to_string())
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(ToOwned::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_command_gets_the_event_in_its_environment_and_on_its_input() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!("{{ echo $HOTWARM_EVENT $HOTWARM_NODE $HOTWARM_EPOCH; cat; }} > {}", out.display());
        run_command(&shell(&script), &became_hot(), b"the body").await.unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "became_hot b 8\nthe body");
    }

    #[tokio::test]
    async fn a_command_does_not_pass_for_a_guarded_node() {
        let command = command_of(&shell("true"), &became_hot());
        let guarded = command.as_std().get_envs().find(|(key, _)| *key == GUARDED);
        assert_eq!(guarded, Some((GUARDED.as_ref(), None)), "it is taken out of what is inherited");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_how() {
        let error = run_command(&shell("exit 3"), &became_hot(), b"").await.unwrap_err();
        assert_eq!(error.to_string(), "it ended with exit status: 3");
        let error = run_command(&["/nonexistent".to_owned()], &became_hot(), b"").await.unwrap_err();
        assert!(error.to_string().starts_with("it could not be started"), "{error}");
    }

    #[tokio::test]
    async fn a_webhook_is_tried_again_after_a_bad_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook = Webhook { authority: listener.local_addr().unwrap().to_string(), path: "/hook?x=1".to_owned() };
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for answer in ["500 Sorry", "204 Fine"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                seen.push(String::from_utf8(request).unwrap());
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            seen
        });
        call_webhook(&webhook, b"{}").await.unwrap();
        let seen = server.await.unwrap();
        assert!(seen.iter().all(|request| request.starts_with("POST /hook?x=1 HTTP/1.1\r\n")), "{seen:?}");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let metrics = Arc::new(Metrics::default());
        let (queue, _events) = channel(1);
        let hooks = Hooks { queue, on_change: Arc::default(), metrics: Arc::clone(&metrics) };
        hooks.tell(&became_hot());
        hooks.tell(&became_hot());
        let note = Note::LeaseLost;
        hooks.tell(&Event::of_note(&note, "b", 1, |node| node.to_string()));
        assert_eq!(metrics.hook_failures.value(), 1);
    }
}
