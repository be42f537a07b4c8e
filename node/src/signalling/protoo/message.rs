//! One protoo message. Parsing is total: whatever is not a message is answered with what is wrong with it.

use serde_json::{Map, Value, json};

use crate::rooms::api::Refusal;

/// Longest method name that is repeated in an error.
const MAX_METHOD_LEN: usize = 64;

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Request { id: u32, method: String, data: Value },
    Response { id: u32, result: Result<Value, Refusal> },
    Notification { method: String, data: Value },
}

/// Why a text is no message, with the id of the request that it seems to have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) id: Option<u32>,
    pub(super) refusal: Refusal,
}

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Message, Malformed> {
    let malformed = |id, reason: String| Malformed { id, refusal: Refusal::bad_request(reason) };
    let value: Value = serde_json::from_str(text).map_err(|error| malformed(None, format!("not JSON: {error}")))?;
    let Value::Object(mut fields) = value else {
        return Err(malformed(None, "a message must be a JSON object".to_owned()));
    };
    let id = fields.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let id_or =
        |id: Option<u32>| id.ok_or_else(|| malformed(None, "id must be an integer from 0 to 4294967295".to_owned()));
    if is_true(&fields, "request") {
        let id = id_or(id)?;
        let method = method(&mut fields)
            .ok_or_else(|| malformed(Some(id), "method must be a string of 1 to 64 bytes".to_owned()))?;
        let data = data(&mut fields).ok_or_else(|| malformed(Some(id), "data must be an object".to_owned()))?;
        Ok(Message::Request { id, method, data })
    } else if is_true(&fields, "response") {
        let id = id_or(id)?;
        let result = if is_true(&fields, "ok") {
            Ok(fields.remove("data").unwrap_or_default())
        } else {
            let code = fields.get("errorCode").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
            let reason = fields.get("errorReason").and_then(Value::as_str).unwrap_or("no reason given");
            Err(Refusal::new(code.unwrap_or(500), reason))
        };
        Ok(Message::Response { id, result })
    } else if is_true(&fields, "notification") {
        let method = method(&mut fields)
            .ok_or_else(|| malformed(None, "method must be a string of 1 to 64 bytes".to_owned()))?;
        let data = data(&mut fields).ok_or_else(|| malformed(None, "data must be an object".to_owned()))?;
        Ok(Message::Notification { method, data })
    } else {
        Err(malformed(id, "a message must have request, response or notification set to true".to_owned()))
    }
}

/// A request of the server.
pub(super) fn request(id: u32, method: &str, data: &Value) -> String {
    json!({"request": true, "id": id, "method": method, "data": data}).to_string()
}

/// A notification of the server.
pub(super) fn notification(method: &str, data: &Value) -> String {
    json!({"notification": true, "method": method, "data": data}).to_string()
}

/// The answer to a client's request. Without the id of a request (`null`), clients log it and go on.
pub(super) fn response(id: Option<u32>, result: Result<Value, Refusal>) -> String {
    match result {
        Ok(data) => json!({"response": true, "id": id, "ok": true, "data": data}),
        Err(Refusal { code, reason }) => json!({"response": true, "id": id, "errorCode": code, "errorReason": reason}),
    }
    .to_string()
}

fn is_true(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name) == Some(&Value::Bool(true))
}

/// Without any, an empty object.
fn data(fields: &mut Map<String, Value>) -> Option<Value> {
    match fields.remove("data") {
        None | Some(Value::Null) => Some(json!({})),
        data => data.filter(Value::is_object),
    }
}

fn method(fields: &mut Map<String, Value>) -> Option<String> {
    match fields.remove("method") {
        Some(Value::String(method)) if (1..=MAX_METHOD_LEN).contains(&method.len()) => Some(method),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(text: &str) -> (Option<u32>, String) {
        let malformed = parse(text).unwrap_err();
        assert_eq!(malformed.refusal.code, 400);
        (malformed.id, malformed.refusal.reason)
    }

    #[test]
    fn every_kind_of_message_is_read() {
        assert_eq!(
            parse(r#"{"request":true,"id":7,"method":"join","data":{"a":1}}"#),
            Ok(Message::Request { id: 7, method: "join".to_owned(), data: json!({"a": 1}) })
        );
        assert_eq!(
            parse(r#"{"request":true,"id":0,"method":"x"}"#),
            Ok(Message::Request { id: 0, method: "x".to_owned(), data: json!({}) })
        );
        assert_eq!(
            parse(r#"{"response":true,"id":7,"ok":true,"data":{}}"#),
            Ok(Message::Response { id: 7, result: Ok(json!({})) })
        );
        assert_eq!(
            parse(r#"{"response":true,"id":7,"errorCode":403,"errorReason":"no"}"#),
            Ok(Message::Response { id: 7, result: Err(Refusal::new(403, "no")) })
        );
        assert_eq!(
            parse(r#"{"notification":true,"method":"x","data":{}}"#),
            Ok(Message::Notification { method: "x".to_owned(), data: json!({}) })
        );
    }

    #[test]
    fn what_is_wrong_is_said_and_for_which_request() {
        assert!(reason("{").1.starts_with("not JSON: EOF"));
        assert_eq!(reason("[]"), (None, "a message must be a JSON object".to_owned()));
        assert_eq!(reason(r#"{"id":4}"#).0, Some(4));
        assert_eq!(
            reason(r#"{"request":true,"method":"x"}"#),
            (None, "id must be an integer from 0 to 4294967295".to_owned())
        );
        assert!(reason(r#"{"request":true,"id":-1,"method":"x"}"#).1.starts_with("id must be"));
        assert_eq!(reason(r#"{"request":true,"id":5}"#).0, Some(5));
        assert_eq!(
            reason(r#"{"request":true,"id":5,"method":"x","data":[]}"#),
            (Some(5), "data must be an object".to_owned())
        );
        let long = format!(r#"{{"request":true,"id":5,"method":"{}"}}"#, "x".repeat(65));
        assert!(reason(&long).1.starts_with("method must be"));
        assert!(
            reason(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)))
                .1
                .starts_with("not JSON: recursion limit")
        );
    }

    /// JSON values of any shape, with the names that protoo uses.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Quarters: serde_json reads long fractions inexactly.
            any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            let name = prop_oneof![
                Just("request".to_owned()),
                Just("response".to_owned()),
                Just("notification".to_owned()),
                Just("id".to_owned()),
                Just("method".to_owned()),
                Just("ok".to_owned()),
                Just("data".to_owned()),
                ".{0,4}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_a_message_or_malformed(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_json_is_a_message_or_malformed(value in json()) {
            match parse(&value.to_string()) {
                Ok(_) => prop_assert!(value.is_object()),
                Err(malformed) => prop_assert!(!malformed.refusal.reason.is_empty()),
            }
        }

        #[test]
        fn what_the_server_writes_is_a_message(id: u32, method in "[a-zA-Z]{1,64}", value in json(), code: u16, text in ".{0,40}") {
            let data = json!({"value": value});
            prop_assert_eq!(
                parse(&request(id, &method, &data)).unwrap(),
                Message::Request { id, method: method.clone(), data: data.clone() }
            );
            prop_assert_eq!(
                parse(&notification(&method, &data)).unwrap(),
                Message::Notification { method, data: data.clone() }
            );
            prop_assert_eq!(parse(&response(Some(id), Ok(data.clone()))).unwrap(), Message::Response { id, result: Ok(data) });
            let refusal = Refusal::new(code, text);
            prop_assert_eq!(
                parse(&response(Some(id), Err(refusal.clone()))).unwrap(),
                Message::Response { id, result: Err(refusal) }
            );
        }
    }
}
