//! Which routes there are, and which role answers which: a table, and what is not in it is denied.

use super::status::Role;
use hyper::Method;

/// A route of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the route of that name in `ROUTES`")]
pub enum Route {
    Status,
    State,
    History,
    Metrics,
    Primary,
    Replica,
    Health,
    Liveness,
    Readiness,
    Switchover,
    Pause,
    Resume,
    ClockFollow,
    Apply,
    Promote,
    NodeAdd,
    NodeRemove,
    NodeReplace,
    Leave,
    Reload,
}

/// Whether a route may be used without the token: load balancers' checks carry none, and learn only yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Needs the token, where one is set.
    Token,
    /// Answers yes or no to anybody.
    Open,
}

use Role::{Fenced, Hot, Joining, Warm, Witness};

/// Everything that there is: route, whether it reads or changes, its path, its gate, and the roles that answer it.
const ROUTES: [(Route, bool, &str, Gate, &[Role]); 20] = [
    (Route::Status, false, "/status", Gate::Token, &Role::ALL),
    (Route::State, false, "/state", Gate::Token, &[Hot, Warm, Witness]),
    (Route::History, false, "/history", Gate::Token, &Role::ALL),
    (Route::Metrics, false, "/metrics", Gate::Token, &Role::ALL),
    (Route::Primary, false, "/primary", Gate::Open, &Role::ALL),
    (Route::Replica, false, "/replica", Gate::Open, &Role::ALL),
    (Route::Health, false, "/health", Gate::Open, &Role::ALL),
    (Route::Liveness, false, "/liveness", Gate::Open, &Role::ALL),
    (Route::Readiness, false, "/readiness", Gate::Open, &Role::ALL),
    (Route::Switchover, true, "/switchover", Gate::Token, &[Hot]),
    (Route::Pause, true, "/pause", Gate::Token, &[Hot, Warm, Witness]),
    (Route::Resume, true, "/resume", Gate::Token, &[Hot, Warm, Witness]),
    (Route::ClockFollow, true, "/clock/follow", Gate::Token, &[Hot]),
    (Route::Apply, true, "/apply", Gate::Token, &[Hot, Warm, Witness]),
    (Route::Promote, true, "/promote", Gate::Token, &[Warm]),
    (Route::NodeAdd, true, "/node/add", Gate::Token, &[Hot, Warm, Witness]),
    (Route::NodeRemove, true, "/node/remove", Gate::Token, &[Hot, Warm, Witness]),
    (Route::NodeReplace, true, "/node/replace", Gate::Token, &[Hot, Warm, Witness]),
    (Route::Leave, true, "/leave", Gate::Token, &[Hot, Warm, Witness, Joining, Fenced]),
    (Route::Reload, true, "/reload", Gate::Token, &Role::ALL),
];

impl Route {
    /// The route of a method and a path; `Err(true)` where the path exists under another method.
    ///
    /// # Errors
    /// There is no such route.
    pub fn find(method: &Method, path: &str) -> Result<Self, bool> {
        let mut known = false;
        for (route, changes, at, ..) in ROUTES {
            if at == path {
                known = true;
                let reads = *method == Method::GET || *method == Method::HEAD;
                if (changes && *method == Method::POST) || (!changes && reads) {
                    return Ok(route);
                }
            }
        }
        Err(known)
    }

    /// Whether a node of this role answers it.
    #[must_use]
    pub fn answered_by(self, role: Role) -> bool {
        ROUTES.iter().any(|(route, _, _, _, roles)| *route == self && roles.contains(&role))
    }
}

/// Whether the route needs the token. What is not in the table needs it.
#[must_use]
pub fn gate(route: Route) -> Gate {
    ROUTES.iter().find(|(known, ..)| *known == route).map_or(Gate::Token, |(_, _, _, gate, _)| *gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_answers_exactly_what_the_table_says() {
        let table = |role: Role| -> String {
            ROUTES.iter().map(|(route, ..)| if route.answered_by(role) { 'y' } else { '-' }).collect()
        };
        // status state history metrics primary replica health liveness readiness | switchover pause resume clock/follow
        // apply promote node/add node/remove node/replace leave reload
        assert_eq!(table(Hot), "yyyyyyyyyyyyyy-yyyyy");
        assert_eq!(table(Warm), "yyyyyyyyy-yy-yyyyyyy");
        assert_eq!(table(Witness), "yyyyyyyyy-yy-y-yyyyy");
        assert_eq!(table(Joining), "y-yyyyyyy---------yy");
        assert_eq!(table(Fenced), "y-yyyyyyy---------yy");
    }

    #[test]
    fn only_yes_or_no_is_open_and_nothing_that_changes_is() {
        for (route, changes, path, gate_said, _) in ROUTES {
            assert_eq!(gate(route), gate_said);
            if changes {
                assert_eq!(gate_said, Gate::Token, "{path}");
            }
        }
        assert_eq!(gate(Route::Status), Gate::Token);
    }

    #[test]
    fn a_path_is_found_only_under_its_method() {
        assert_eq!(Route::find(&Method::GET, "/status"), Ok(Route::Status));
        assert_eq!(Route::find(&Method::HEAD, "/primary"), Ok(Route::Primary));
        assert_eq!(Route::find(&Method::POST, "/status"), Err(true));
        assert_eq!(Route::find(&Method::GET, "/leave"), Err(true));
        assert_eq!(Route::find(&Method::GET, "/status/"), Err(false));
        assert_eq!(Route::find(&Method::POST, "/node"), Err(false));
    }
}
