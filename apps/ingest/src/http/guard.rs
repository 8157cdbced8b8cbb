//! Who may call.
//!
//! With a key, whoever has it. Without one the service listens on loopback, and whoever is on this machine may call,
//! but no web page that somebody on this machine looks at: a browser says where a page's request comes from, and a page
//! whose name was made to lead here asks for that name.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
};

use super::{Site, refusal::Refusal};
use crate::settings::Bearer;

/// Who may call.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Whoever has this token.
    Key(Bearer),
    /// Programs of this machine.
    Loopback,
}

impl Guard {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Key(key) => {
                let given = text(AUTHORIZATION).and_then(|value| {
                    let (scheme, token) = value.split_once(' ')?;
                    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
                });
                if given.is_some_and(|given| key.is(given)) {
                    return Ok(());
                }
                let detail = "Send the service's key: Authorization: Bearer <MORAG_INGEST_API_KEY>";
                Err(Refusal::new(StatusCode::UNAUTHORIZED, detail))
            }
            Self::Loopback if headers.contains_key(ORIGIN) || !text(HOST).is_none_or(is_this_machine) => {
                let detail = "Without MORAG_INGEST_API_KEY web pages may not call this service";
                Err(Refusal::new(StatusCode::FORBIDDEN, detail))
            }
            Self::Loopback => Ok(()),
        }
    }
}

/// Whether a `Host` header names this machine by what no DNS server can lead elsewhere.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Lets a call through, or refuses it.
pub(super) async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match site.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_lead_nowhere_else_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "192.168.1.9:80", "", "[fe80::1]:80"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
