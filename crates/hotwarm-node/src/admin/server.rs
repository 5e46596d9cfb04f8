//! The HTTP/1.1 server of the admin API.
//!
//! Bounded in connections, header time and body size; a connection that has not made its request whole is pushed out
//! by newer ones, so that idle ones cannot keep an operator or a load balancer's check waiting. It speaks to programs on this machine: a request that a web
//! page caused is refused (an `Origin` header, a body that is not JSON, a `Host` that is a name), since a browser
//! on the operator's machine must not be a way in.

use super::NodeControl;
use super::body::{
    AddRequest, ApplyRequest, Done, ErrorBody, ErrorKind, NameRequest, PauseRequest, PromoteRequest, SwitchoverRequest,
    digits_of,
};
use super::change::{line_of, name_of};
use super::route::{Gate, Route, gate};
use super::status::{Facts, Role};
use crate::config::{Agreed, Secret, differences};
use crate::newcomers::Newcomers;
use hotwarm_core::register::MemberRole;
use hotwarm_core::{Answer, Ask, AskRefused};
use hotwarm_types::{NodeId, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once whose request is not whole yet, or that read: one more pushes out the oldest. What is under way in
/// the node is not among them: the core bounds what it is asked ([`hotwarm_types::limits::REQUESTS_WAITING_MAX`]), and what
/// it is not asked is bounded here ([`LOCAL_REQUESTS_MAX`]).
const CONNECTIONS_MAX: usize = 64;
/// Requests at once that this node carries out without the core: to read its file again, to follow the clock. One more
/// hears that the node is busy.
const LOCAL_REQUESTS_MAX: usize = 8;
/// After `accept` has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A body: the settings of a group are far smaller.
const BODY_SIZE_BYTES_MAX: usize = 256 << 10;
/// How long a client may take to send its headers.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to send its body.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long one request may take in all; an answer that comes later is "unknown".
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// The longest maintenance: a week. R29 wants it to end by itself.
pub const PAUSE_LENGTH_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Who may use the API.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that requests must carry; `None` on loopback.
    pub token: Option<Secret>,
}

/// Serves until it is dropped. Cancel safe: dropping it closes the listener; connections under way are finished by
/// their own tasks within a minute.
pub async fn serve(listener: TcpListener, control: Arc<dyn NodeControl>, access: Access) {
    let shared = Arc::new(Shared::new(control, access));
    for number in 0.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                let task = || tokio::spawn(serve_one(Arc::clone(&shared), number, stream)).abort_handle();
                shared.newcomers.enter(number, task);
            }
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would only spin.
                tracing::warn!(event = "admin_accept_failed", %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections share.
struct Shared {
    control: Arc<dyn NodeControl>,
    access: Access,
    newcomers: Newcomers,
    /// Places for requests that the core is not asked.
    local: Semaphore,
}

impl Shared {
    fn new(control: Arc<dyn NodeControl>, access: Access) -> Self {
        let (newcomers, local) = (Newcomers::new(CONNECTIONS_MAX), Semaphore::new(LOCAL_REQUESTS_MAX));
        Self { control, access, newcomers, local }
    }
}

/// Serves one connection, whatever carries it, until it is answered or broken.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    control: Arc<dyn NodeControl>,
    access: Access,
) {
    serve_one(Arc::new(Shared::new(control, access)), 0, stream).await;
}

async fn serve_one(shared: Arc<Shared>, number: u64, stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, number, &shared).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away, or sends what is not HTTP, harms only itself.
    let _ = tokio::time::timeout(REQUEST_TIME_MAX + HEADER_TIME_MAX, serving).await;
    shared.newcomers.leave(number);
}

type Reply = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, number: u64, shared: &Shared) -> Reply {
    let Shared { control, access, newcomers, local } = shared;
    let control = &**control;
    let (head, body) = request.into_parts();
    let route = match Route::find(&head.method, head.uri.path()) {
        Ok(route) => route,
        Err(known) => return no_route(known, &head.method, head.uri.path()),
    };
    if let Some(refused) = refusal(route, &head.method, &head.headers, access) {
        return refused;
    }
    if body.size_hint().lower() > BODY_SIZE_BYTES_MAX as u64 {
        let text = format!("the body is longer than {BODY_SIZE_BYTES_MAX} bytes");
        return error(StatusCode::PAYLOAD_TOO_LARGE, &ErrorBody::refused(ErrorKind::BadRequest, text));
    }
    let facts = control.facts();
    if !route.answered_by(facts.role) {
        let hot = hot_name(&facts);
        let text = wrong_role(route, head.uri.path(), &facts, hot.as_deref());
        return error(StatusCode::CONFLICT, &ErrorBody { hot, ..ErrorBody::refused(ErrorKind::WrongRole, text) });
    }
    match route {
        Route::Status => json(StatusCode::OK, &control.status()),
        Route::State => {
            newcomers.leave(number);
            change(route, b"", &facts, control).await
        }
        Route::History => json(StatusCode::OK, &control.history()),
        Route::Metrics => plain(StatusCode::OK, "text/plain; version=0.0.4", control.metrics_text()),
        Route::Primary => yes_or_no(facts.role == Role::Hot && facts.serves, facts.role),
        Route::Replica => yes_or_no(facts.role == Role::Warm && facts.serves, facts.role),
        Route::Health => yes_or_no(facts.role != Role::Fenced && control.is_alive(), facts.role),
        Route::Liveness => yes_or_no(control.is_alive(), facts.role),
        // A node that is ready takes every command, a write too.
        Route::Readiness => yes_or_no(facts.serves && control.status().writes_wait.is_none(), facts.role),
        Route::Reload => {
            let Ok(_place) = local.try_acquire() else { return refusal_of(&AskRefused::Busy, &facts) };
            newcomers.leave(number);
            control.reload().await;
            json(StatusCode::OK, &control.status())
        }
        Route::Switchover
        | Route::Pause
        | Route::Resume
        | Route::ClockFollow
        | Route::Apply
        | Route::Promote
        | Route::NodeAdd
        | Route::NodeRemove
        | Route::NodeReplace
        | Route::Leave => {
            let body = Limited::new(body, BODY_SIZE_BYTES_MAX).collect();
            match tokio::time::timeout(BODY_TIME_MAX, body).await {
                Ok(Ok(_)) if route == Route::ClockFollow => {
                    let Ok(_place) = local.try_acquire() else { return refusal_of(&AskRefused::Busy, &facts) };
                    newcomers.leave(number);
                    follow_clock(&facts, control).await
                }
                Ok(Ok(body)) => {
                    newcomers.leave(number);
                    change(route, &body.to_bytes(), &facts, control).await
                }
                Ok(Err(_)) => bad_request(&format!("the body is cut off, or longer than {BODY_SIZE_BYTES_MAX} bytes")),
                Err(_) => error(
                    StatusCode::REQUEST_TIMEOUT,
                    &ErrorBody::refused(ErrorKind::BadRequest, format!("the body took longer than {BODY_TIME_MAX:?}")),
                ),
            }
        }
    }
}

/// The refusal of a request that may not be answered at all.
fn refusal(route: Route, method: &Method, headers: &HeaderMap, access: &Access) -> Option<Reply> {
    let denied = |status, why: &str| Some(error(status, &ErrorBody::refused(ErrorKind::Denied, why)));
    if headers.contains_key(ORIGIN) {
        return denied(StatusCode::FORBIDDEN, "requests of web pages are refused");
    }
    match &access.token {
        Some(token) if gate(route) == Gate::Token => {
            let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
            if !given.is_some_and(|given| token.matches(given)) {
                return denied(StatusCode::UNAUTHORIZED, "the token is missing or wrong: see admin_token_file");
            }
        }
        Some(_) => {}
        None => {
            let host = headers.get(HOST).and_then(|value| value.to_str().ok());
            if !host.is_none_or(is_literal) {
                let why = "without a token the API is addressed by IP address or localhost only";
                return denied(StatusCode::FORBIDDEN, why);
            }
        }
    }
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if *method == Method::POST && !is_json {
        return Some(bad_request("a change needs the header content-type: application/json"));
    }
    None
}

/// Whether a `Host` header is an IP address or `localhost`: a name that a page had resolved to loopback is neither.
fn is_literal(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}

async fn change(route: Route, body: &[u8], facts: &Facts, control: &dyn NodeControl) -> Reply {
    let ask = match ask_of(route, body, facts) {
        Ok(ask) => ask,
        Err(refusal) => return error(StatusCode::BAD_REQUEST, &refusal),
    };
    let began = Instant::now();
    let answered = tokio::time::timeout(REQUEST_TIME_MAX, control.ask(ask)).await.unwrap_or(Err(AskRefused::Unknown));
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answered {
        Ok(Answer::State(state)) => {
            let done = Done {
                hot: Some(name_of(&state, state.reign.node)),
                epoch: state.reign.epoch.0,
                register_version: Some(state.version.0),
                took_ms,
                state: route_shows_state(route).then(|| digits_of(&state)),
            };
            json(StatusCode::OK, &done)
        }
        Ok(Answer::HandedOver(reign)) => {
            let hot = Some(node_name(facts, reign.node));
            json(StatusCode::OK, &Done { hot, epoch: reign.epoch.0, register_version: None, took_ms, state: None })
        }
        Err(refused) => refusal_of(&refused, facts),
    }
}

async fn follow_clock(facts: &Facts, control: &dyn NodeControl) -> Reply {
    let answered = tokio::time::timeout(REQUEST_TIME_MAX, control.follow_clock()).await;
    match answered.unwrap_or(Err(AskRefused::Unknown)) {
        Ok(followed) => json(StatusCode::OK, &followed),
        Err(refused) => refusal_of(&refused, facts),
    }
}

/// The refusal of something that was asked for, with whom it points to.
fn refusal_of(refused: &AskRefused, facts: &Facts) -> Reply {
    let hot = match refused {
        AskRefused::NotHot { hot } => hot.map(|hot| node_name(facts, hot)),
        AskRefused::Conflict { .. }
        | AskRefused::Forbidden { .. }
        | AskRefused::NoTarget { .. }
        | AskRefused::Busy
        | AskRefused::NoMajority { .. }
        | AskRefused::Unknown => None,
    };
    error(status_of(refused), &ErrorBody::of(refused, hot))
}

/// Whether the answer carries the state that was read or made.
fn route_shows_state(route: Route) -> bool {
    matches!(route, Route::State | Route::NodeAdd | Route::NodeReplace | Route::NodeRemove)
}

/// Why a node of this role does not answer a route, and who does.
fn wrong_role(route: Route, path: &str, facts: &Facts, hot: Option<&str>) -> String {
    let role = facts.role;
    match (route, role, hot) {
        (Route::Switchover, Role::Warm | Role::Witness, Some(hot)) => {
            format!("only the hot hands over: this node is {role}, and {hot} is hot; nothing was changed")
        }
        (Route::ClockFollow, Role::Warm | Role::Witness, Some(hot)) => {
            format!("group time is the hot's: this node is {role}, and {hot} is hot; nothing was changed")
        }
        (Route::Promote, Role::Hot, _) => "this node is hot already; nothing was changed".to_owned(),
        (Route::Promote, Role::Witness, _) => {
            "this node is a witness and holds no data: ask a warm node; nothing was changed".to_owned()
        }
        _ => format!("a {role} node does not answer {path}; nothing was changed"),
    }
}

fn status_of(refused: &AskRefused) -> StatusCode {
    match refused {
        AskRefused::NotHot { .. }
        | AskRefused::Conflict { .. }
        | AskRefused::Forbidden { .. }
        | AskRefused::NoTarget { .. } => StatusCode::CONFLICT,
        AskRefused::Busy | AskRefused::NoMajority { .. } => StatusCode::SERVICE_UNAVAILABLE,
        AskRefused::Unknown => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// What a request asks of the core.
fn ask_of(route: Route, body: &[u8], facts: &Facts) -> Result<Ask, ErrorBody> {
    let bad = |why: String| ErrorBody::refused(ErrorKind::BadRequest, why);
    match route {
        Route::Switchover => {
            let request: SwitchoverRequest = read(body)?;
            let to = request.to.map(|name| member_id(facts, &name)).transpose()?;
            Ok(Ask::HandOver { to })
        }
        Route::Pause => {
            let request: PauseRequest = read(body)?;
            let length = Duration::from_millis(request.length_ms);
            if length.is_zero() || length > PAUSE_LENGTH_MAX {
                return Err(bad("length_ms must be at least 1 and at most 604800000, which is 7 days".to_owned()));
            }
            if request.reason.is_empty() || request.reason.len() > 256 {
                return Err(bad("reason must hold 1 to 256 bytes: it is shown wherever the pause is".to_owned()));
            }
            Ok(Ask::Pause { length, reason: request.reason })
        }
        Route::State => Ok(Ask::ReadState),
        Route::Resume => Ok(Ask::Resume),
        Route::Apply => {
            let request: ApplyRequest = read(body)?;
            let agreed = Agreed::parse(&request.text).map_err(|faults| bad(faults.to_string()))?;
            let (old, new) = (&facts.config.agreed.group.name, &agreed.group.name);
            if old != new {
                return Err(bad(format!("the group is named \"{old}\" and cannot be renamed to \"{new}\"")));
            }
            let (expected, settings) = (Version(request.expected_version), agreed.settings());
            // Another version than this node knows: the history will not tell of the keys.
            let held = facts.state.as_ref().filter(|state| state.version == expected);
            let changes = held.map(|state| line_of(&differences(&state.settings.text, &settings.text)));
            Ok(Ask::Apply { expected, settings, changes: changes.unwrap_or_default() })
        }
        Route::Promote => {
            let request: PromoteRequest = read(body)?;
            if request.statement.is_empty() || request.statement.len() > 256 {
                return Err(bad(
                    "statement must say in 1 to 256 bytes how the old hot is known to be fenced".to_owned()
                ));
            }
            Ok(Ask::ForcePromote { statement: request.statement })
        }
        Route::NodeAdd => invite(read(body)?, facts, false),
        Route::NodeReplace => invite(read(body)?, facts, true),
        Route::NodeRemove => Ok(Ask::Remove { name: read::<NameRequest>(body)?.name }),
        Route::Leave => Ok(Ask::Leave),
        Route::Status
        | Route::History
        | Route::Metrics
        | Route::Primary
        | Route::Replica
        | Route::Health
        | Route::Liveness
        | Route::Readiness
        | Route::ClockFollow
        | Route::Reload => Err(bad("this route asks nothing of the group".to_owned())),
    }
}

/// An invitation; a replacement takes what it does not say from the member that it replaces.
fn invite(request: AddRequest, facts: &Facts, replaces: bool) -> Result<Ask, ErrorBody> {
    let bad = |why: String| ErrorBody::refused(ErrorKind::BadRequest, why);
    let role = request.role();
    let old = facts.state.as_ref().and_then(|state| state.member_named(&request.name)).map(|(_, member)| member);
    match (replaces, old) {
        (true, None) => return Err(bad(format!("\"{}\" is not a member: add it instead", request.name))),
        (false, Some(_)) => return Err(bad(format!("\"{}\" is a member already: replace it instead", request.name))),
        (true, Some(_)) | (false, None) => {}
    }
    if !crate::config::is_name(&request.name) {
        return Err(bad(format!("name {:?} must be lower-case letters, digits and inner hyphens", request.name)));
    }
    let address = request.address.or_else(|| old.map(|member| member.address.clone()));
    let Some(address) = address.filter(|address| crate::config::is_address(address)) else {
        return Err(bad("address must be a host name or IP address and a port, as in \"c.lan:7400\"".to_owned()));
    };
    Ok(Ask::Invite {
        name: request.name,
        address,
        role: role.or_else(|| old.map(|member| member.role)).unwrap_or(MemberRole::Data),
        priority: request.priority.or_else(|| old.map(|member| member.priority)).unwrap_or(100),
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorBody> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ErrorBody::refused(ErrorKind::BadRequest, format!("the body: {error}")))
}

fn member_id(facts: &Facts, name: &str) -> Result<NodeId, ErrorBody> {
    let found = facts.state.as_ref().and_then(|state| state.member_named(name)).map(|(id, _)| id);
    found.ok_or_else(|| ErrorBody::refused(ErrorKind::BadRequest, format!("\"{name}\" is not a member")))
}

fn node_name(facts: &Facts, node: NodeId) -> String {
    facts.state.as_ref().map_or_else(|| node.to_string(), |state| name_of(state, node))
}

fn hot_name(facts: &Facts) -> Option<String> {
    facts.state.as_ref().filter(|state| state.reign.epoch.0 > 0).map(|state| name_of(state, state.reign.node))
}

fn no_route(known: bool, method: &Method, path: &str) -> Reply {
    let (status, why) = if known {
        (StatusCode::METHOD_NOT_ALLOWED, format!("{path} is not for {method}"))
    } else {
        (StatusCode::NOT_FOUND, format!("there is no {path}"))
    };
    error(status, &ErrorBody::refused(ErrorKind::NotFound, why))
}

fn bad_request(why: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, &ErrorBody::refused(ErrorKind::BadRequest, why))
}

fn error(status: StatusCode, body: &ErrorBody) -> Reply {
    json(status, body)
}

fn yes_or_no(yes: bool, role: Role) -> Reply {
    let status = if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    plain(status, "text/plain", format!("{role}\n"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // Every type that crosses the API is a plain tree of texts and numbers, which always has a JSON form.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    plain(status, "application/json", text + "\n")
}

fn plain(status: StatusCode, kind: &'static str, text: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    reply
}
