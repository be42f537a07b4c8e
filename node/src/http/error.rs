//! What is answered to a request that is refused.

use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse, Response};

use crate::entrance::AdmissionError;
use crate::rooms::api::Refusal;

/// Why a request is refused, and in words.
#[derive(Debug)]
pub(crate) struct HttpError(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let Self(status, words) = self;
        let words = format!("{words}\n");
        match status {
            // RFC 6750 section 3.
            StatusCode::UNAUTHORIZED => (status, [(WWW_AUTHENTICATE, "Bearer")], words).into_response(),
            _ => (status, words).into_response(),
        }
    }
}

impl From<AdmissionError> for HttpError {
    fn from(error: AdmissionError) -> Self {
        let status = match &error {
            AdmissionError::Incomplete(_) => StatusCode::BAD_REQUEST,
            AdmissionError::Unauthorised(_) => StatusCode::UNAUTHORIZED,
            AdmissionError::Forbidden(_) => StatusCode::FORBIDDEN,
            AdmissionError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<Refusal> for HttpError {
    fn from(Refusal { code, reason }: Refusal) -> Self {
        Self(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), reason)
    }
}
