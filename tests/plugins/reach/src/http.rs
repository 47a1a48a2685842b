//! Requests.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    }
}

fn outgoing(method_name: &str, url: &str) -> Option<OutgoingRequest> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&method(method_name)).ok()?;
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(path)).ok()?;
    Some(request)
}

fn send(request: OutgoingRequest, body: &[u8], for_ever: bool) -> Result<IncomingResponse, String> {
    let outgoing_body =
        (for_ever || !body.is_empty()).then(|| request.body().map_err(|()| "no body".to_owned())).transpose()?;
    let future = outgoing_handler::handle(request, None).map_err(|error| format!("error: {error:?}"))?;
    if let Some(outgoing_body) = outgoing_body {
        if let Ok(stream) = outgoing_body.write() {
            loop {
                let part: &[u8] = if for_ever { &[b'x'; 4096] } else { body };
                if stream.blocking_write_and_flush(part).is_err() || !for_ever {
                    break;
                }
            }
        }
        let _ = OutgoingBody::finish(outgoing_body, None);
    }
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(error))) => Err(format!("error: {error:?}")),
        _ => Err("error: no response".into()),
    }
}

fn read(response: &IncomingResponse) -> Result<String, String> {
    let body = response.consume().map_err(|()| "error: no body".to_owned())?;
    let stream = body.stream().map_err(|()| "error: no stream".to_owned())?;
    let mut n_bytes = 0;
    let mut start = String::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(part) => {
                n_bytes += part.len();
                if start.len() < 100 {
                    start.push_str(&String::from_utf8_lossy(&part[..part.len().min(100)]));
                }
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let told = error.to_debug_string();
                return Err(format!("error in the body: {}", told.lines().next().unwrap_or_default()));
            }
        }
    }
    Ok(if n_bytes < 100 { start } else { format!("{n_bytes} bytes") })
}

fn answered(response: Result<IncomingResponse, String>) -> String {
    let told = response.and_then(|response| Ok(format!("{} {}", response.status(), read(&response)?)));
    told.unwrap_or_else(|error| error)
}

/// One request, and what came back: status and body.
pub(crate) fn request(method: &str, url: &str, body: &[u8]) -> String {
    outgoing(method, url).map_or_else(|| "error: no URL".into(), |request| answered(send(request, body, false)))
}

/// A request whose body does not end.
pub(crate) fn post_for_ever(url: &str) -> String {
    outgoing("POST", url).map_or_else(|| "error: no URL".into(), |request| answered(send(request, b"", true)))
}

/// A request, and, where it is answered with a redirect, one to there.
pub(crate) fn follow(url: &str) -> String {
    let Some(first) = outgoing("GET", url) else { return "error: no URL".into() };
    match send(first, b"", false) {
        Ok(response) if (300..400).contains(&response.status()) => {
            let to = response.headers().get("location").into_iter().next().unwrap_or_default();
            let to = String::from_utf8_lossy(&to).into_owned();
            format!("{} then {}", response.status(), request("GET", &to, b""))
        }
        other => answered(other),
    }
}
