//! The API's resources. All answers are JSON but the metrics; an error is `{"error": "a sentence"}`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status?window_secs=60` | [`Status`] |
//! | `GET /v1/metrics` | Prometheus text |
//!
//! The metrics listener serves only `GET /metrics`.

use std::future::Future;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::telemetry::metrics;
use crate::telemetry::source::Source;
use crate::telemetry::status::{DEFAULT_WINDOW_SECS, Status};

/// The running appliance, as the API sees it.
pub trait Appliance: Clone + Send + Sync + 'static {
    fn observe(&self) -> impl Future<Output = Result<Source, Unavailable>> + Send;
}

/// Why it cannot answer now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What an error answer carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorAnswer {
    pub error: String,
}

/// The operators' API.
pub fn router<A: Appliance>(appliance: A) -> Router {
    Router::new()
        .route("/v1/status", get(status::<A>))
        .route("/v1/metrics", get(prometheus::<A>))
        .fallback(|| async { not_found("there is no such resource; see /v1/status and /v1/metrics") })
        .with_state(appliance)
}

/// What Prometheus scrapes.
pub fn metrics_router<A: Appliance>(appliance: A) -> Router {
    Router::new()
        .route("/metrics", get(prometheus::<A>))
        .fallback(|| async { not_found("only /metrics is here") })
        .with_state(appliance)
}

#[derive(Debug, Deserialize)]
struct StatusQuery {
    window_secs: Option<u64>,
}

async fn status<A: Appliance>(State(appliance): State<A>, Query(query): Query<StatusQuery>) -> Response {
    let window = Duration::from_secs(query.window_secs.unwrap_or(DEFAULT_WINDOW_SECS));
    match appliance.observe().await {
        Ok(source) => Json(Status::of(&source, window)).into_response(),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn prometheus<A: Appliance>(State(appliance): State<A>) -> Response {
    let source = match appliance.observe().await {
        Ok(source) => source,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    match metrics::render(&source) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn not_found(words: &str) -> Response {
    failure(StatusCode::NOT_FOUND, words)
}

fn failure(status: StatusCode, words: &str) -> Response {
    (status, Json(ErrorAnswer { error: words.to_owned() })).into_response()
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::telemetry::source::samples::three_realms;

    /// Always the same answer, or none.
    #[derive(Clone)]
    pub(crate) struct Still {
        pub answers: bool,
    }

    impl Appliance for Still {
        async fn observe(&self) -> Result<Source, Unavailable> {
            if self.answers { Ok(three_realms()) } else { Err(Unavailable("it sleeps".to_owned())) }
        }
    }
}
