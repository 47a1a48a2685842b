//! `wasi:http`: requests to the servers that a job grants, by reqwest; wasmtime-wasi-http has their types.
//!
//! ```text
//!  guest ── handle ──▶ 1. counted   2. held against the grants   3. its name looked up, private addresses left out
//!                      4. sent: with a limit on the body   5. answered: with limits on the time and the body ──▶ guest
//! ```
//!
//! What is granted is a server, not where it redirects to: a redirect is an answer as any other, and a guest that follows it sends
//! another request, which is held against the grants as well. No proxy is used, and no cookie kept.

mod address;
mod body;

use std::error::Error as StdError;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt;
use reqwest::Url;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use crate::operator::Limit;
use crate::plugin::grants::HttpGrant;
use crate::plugin::guest::{Guest, SharedLog};
use crate::plugin::text;
use crate::plugin::wasi::http::address::{Names, PrivateAddress, UnknownName};
use crate::plugin::wasi::http::body::{Counted, Limited};

/// The headers of a request or a response together, in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Requests that all instances of a step may have at one server at once: more wait, for no longer than a request may take. Each holds a
/// connection of the process's, of which it has a thousand or so.
const REQUESTS_AT_ONCE_MAX: usize = 64;
/// Connections to a server that are kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Offers what sends requests.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let view: fn(&mut Guest) -> WasiHttpCtxView<'_> = |guest| view(guest.asked());
    types::add_to_linker::<Guest, WasiHttp>(linker, &types::LinkOptions::default(), view)?;
    outgoing_handler::add_to_linker::<Guest, WasiHttp>(linker, view)
}

fn view(guest: &mut Guest) -> WasiHttpCtxView<'_> {
    let GuestHttp { context, sending } = &mut guest.http;
    WasiHttpCtxView { hooks: sending, table: &mut guest.table, ctx: context }
}

/// A granted server, and what sends requests to it.
pub(crate) struct HttpAccess {
    grant: HttpGrant,
    /// Made with the first request: it reads the system's certificates.
    client: OnceLock<Result<reqwest::Client, String>>,
    /// Holds requests back that would be too many at once.
    at_once: Arc<Semaphore>,
}

impl HttpAccess {
    /// Access to a server that nothing was sent to yet.
    pub(crate) fn new(grant: HttpGrant) -> Self {
        Self { grant, client: OnceLock::new(), at_once: Arc::new(Semaphore::new(REQUESTS_AT_ONCE_MAX)) }
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        let client = self.client.get_or_init(|| {
            let builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .connect_timeout(self.grant.connect_timeout)
                .dns_resolver(Arc::new(Names { public_only: !self.grant.private_addresses }));
            builder.build().map_err(|error| error.to_string())
        });
        client.clone().map_err(|error| Error::InternalError(Some(error)))
    }

    /// Whether the grant is for such a request.
    fn allows(&self, method: &http::Method, url: &Url) -> bool {
        let HttpGrant { host, scheme, port, methods, .. } = &self.grant;
        url.scheme() == scheme.name()
            && url.host_str() == Some(host)
            && url.port_or_known_default() == Some(*port)
            && methods.iter().any(|granted| granted == method.as_str())
    }
}

/// How an instance sends requests.
pub(crate) struct GuestHttp {
    context: WasiHttpCtx,
    sending: Sending,
}

/// What looks at each request.
struct Sending {
    granted: Arc<[HttpAccess]>,
    /// Where it is said what was denied.
    log: SharedLog,
    n_requests: u64,
    requests_max: u64,
}

impl GuestHttp {
    /// A way to the servers in `granted`.
    pub(crate) fn new(granted: Arc<[HttpAccess]>, log: SharedLog, requests_max: u64) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(HEADER_BYTES_MAX);
        Self { context, sending: Sending { granted, log, n_requests: 0, requests_max } }
    }

    /// Starts to count for another call.
    pub(crate) fn begin_call(&mut self) {
        self.sending.n_requests = 0;
    }

    /// The limit that the call has exceeded, if it has.
    pub(crate) fn exceeded(&self) -> Option<(Limit, u64)> {
        let Sending { n_requests, requests_max, .. } = self.sending;
        (n_requests > requests_max).then_some((Limit::HttpRequestsPerCall, requests_max))
    }
}

/// What becomes of the connection while the body is read: reqwest sees to it.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Sending {
    fn set_host_header(&mut self) -> bool {
        // The client sets it, to where it sends.
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _body: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Driver), Error>> + Send> {
        let admitted = self.admit(request.method(), request.uri());
        Box::new(async move {
            let (url, granted, index) = admitted?;
            let access = &granted[index];
            let response = send(access, url, request, options).await?;
            Ok((response, Box::new(std::future::ready(Ok(()))) as Driver))
        })
    }
}

impl Sending {
    /// The grant for a request, or why there is none.
    fn admit(&mut self, method: &http::Method, uri: &http::Uri) -> Result<(Url, Arc<[HttpAccess]>, usize), Error> {
        self.n_requests += 1;
        if self.n_requests > self.requests_max {
            return Err(Error::ConnectionLimitReached);
        }
        // Held against the grants as the client will read it, not as the guest wrote it.
        let url = Url::parse(&uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::HttpRequestUriInvalid);
        }
        let found = self.granted.iter().position(|access| access.allows(method, &url));
        let Some(index) = found else {
            let origin = url.origin().ascii_serialization();
            self.log.lock().deny(format!(
                "`{}` to `{}`: no entry of `grants.http` names that scheme, host, port and method",
                text::one_line(method.as_str()),
                text::one_line(&origin)
            ));
            return Err(Error::HttpRequestDenied);
        };
        Ok((url, Arc::clone(&self.granted), index))
    }
}

async fn send(
    access: &HttpAccess,
    url: Url,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<http::Response<WasiBody>, Error> {
    let grant = &access.grant;
    let options = options.unwrap_or_default();
    let at_most = |asked: Option<Duration>| asked.map_or(grant.timeout, |asked| asked.min(grant.timeout));
    let (first_byte, between_bytes) = (at_most(options.first_byte_timeout), at_most(options.between_bytes_timeout));
    let deadline = Box::pin(tokio::time::sleep(grant.timeout));

    let (parts, body) = request.into_parts();
    let client = access.client()?;
    let mut builder = client.request(parts.method, url).headers(parts.headers);
    if !http_body::Body::is_end_stream(&body) {
        let counted = http_body_util::BodyDataStream::new(Counted::new(body, grant.request_bytes));
        builder = builder.body(reqwest::Body::wrap_stream(counted));
    }
    let at_once = Arc::clone(&access.at_once);
    let sent = async {
        let held = at_once.acquire_owned().await.map_err(|_| Error::ConnectionLimitReached)?;
        let response = builder.send().await.map_err(|error| told(&error))?;
        Ok::<_, Error>((held, response))
    };
    let answered = tokio::time::timeout(first_byte, sent).await;
    let (held, response) = answered.map_err(|_| Error::HttpResponseTimeout)??;
    if response.content_length().is_some_and(|n_bytes| n_bytes > grant.response_bytes) {
        return Err(Error::HttpResponseBodySize(Some(grant.response_bytes)));
    }
    let (mut parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
    // Extensions are the client's own.
    parts.extensions.clear();
    let body = Limited::new(body, grant.response_bytes, deadline, between_bytes, held);
    Ok(http::Response::from_parts(parts, body.boxed_unsync()))
}

/// What went wrong with a request, in the contract's words.
fn told(error: &reqwest::Error) -> Error {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<PrivateAddress>().is_some() {
            return Error::DestinationIpProhibited;
        }
        if cause.downcast_ref::<UnknownName>().is_some() {
            return Error::DnsError { rcode: None, info_code: None };
        }
        // A body's own errors come back through the client.
        if let Some(Error::HttpRequestBodySize(limit)) = cause.downcast_ref() {
            return Error::HttpRequestBodySize(*limit);
        }
        source = cause.source();
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => Error::ConnectionTimeout,
        (true, false) => Error::HttpResponseTimeout,
        (false, true) => Error::ConnectionRefused,
        (false, false) if error.is_builder() => Error::HttpRequestUriInvalid,
        (false, false) => Error::HttpProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::grants::HttpScheme;

    #[test]
    fn a_grant_is_for_one_server_and_its_methods() {
        let access = HttpAccess::new(HttpGrant::get(HttpScheme::Https, "api.example.com"));
        let check = |method: &str, url: &str, expected| {
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            let url = Url::parse(url).unwrap();
            assert_eq!(access.allows(&method, &url), expected, "{method} {url}");
        };
        check("GET", "https://api.example.com/a?b", true);
        check("GET", "https://api.example.com:443/", true);
        check("GET", "https://API.Example.com/", true);
        check("GET", "https://api.example.com:8443/", false);
        check("GET", "http://api.example.com/", false);
        check("GET", "http://api.example.com:443/", false);
        check("POST", "https://api.example.com/", false);
        check("get", "https://api.example.com/", false);
        check("GET", "https://api.example.com.evil.org/", false);
        check("GET", "https://evil.org/api.example.com", false);
        check("GET", "https://api.example.com./", false);
    }

    #[test]
    fn an_address_is_granted_as_a_url_has_it() {
        let access = HttpAccess::new(HttpGrant::get(HttpScheme::Http, "[::1]"));
        assert!(access.allows(&http::Method::GET, &Url::parse("http://[0:0:0:0:0:0:0:1]/").unwrap()));
        let access = HttpAccess::new(HttpGrant::get(HttpScheme::Http, "127.0.0.1"));
        assert!(
            access.allows(&http::Method::GET, &Url::parse("http://0x7f.1/").unwrap()),
            "what is granted is an address"
        );
    }
}
