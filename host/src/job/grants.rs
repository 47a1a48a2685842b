//! The `grants` of a step that runs a plugin.

use std::time::Duration;

use url::Url;

use super::table::Table;
use crate::plugin::{Access, DirectoryGrant, Grants, HttpGrant, HttpScheme};

/// The longest time that a request may take: a call is over sooner.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Reads `grants`, a table that ends here.
pub(super) fn read_grants(mut table: Table<'_>) -> Grants {
    let directories = table.tables("directories").into_iter().filter_map(read_directory).collect::<Vec<_>>();
    for (index, granted) in directories.iter().enumerate() {
        if directories[..index].iter().any(|other| other.guest_path == granted.guest_path) {
            let message = format!("two directories are granted as `{}`", granted.guest_path);
            table.problem("directories", message, Some("Give each another `as`.".into()));
        }
    }
    let environment = table.named_texts("environment").unwrap_or_default();
    for (name, value) in &environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let message = format!("`{name}` cannot be an environment variable");
            table.problem("environment", message, Some("Names have no `=`, and nothing has a zero byte.".into()));
        }
    }
    let http = table.tables("http").into_iter().filter_map(read_http).collect();
    let real = [("real", true)];
    let real_clock = table.choice("clock", &real).unwrap_or(false);
    let real_random = table.choice("random", &real).unwrap_or(false);
    table.finish();
    Grants { directories, environment, http, real_clock, real_random }
}

fn read_directory(mut table: Table<'_>) -> Option<DirectoryGrant> {
    let access = table.choice("access", &[("read", Access::Read), ("write", Access::Write)]).unwrap_or_default();
    let path = if table.has("path") { table.existing_directory("path") } else { missing(&mut table, "path", "data") };
    let guest_path = if table.has("as") { table.text("as") } else { missing(&mut table, "as", "/data") };
    let guest_path = guest_path.filter(|guest_path| {
        let is_good = guest_path.starts_with('/') && !guest_path.split('/').any(|part| matches!(part, "." | ".."));
        if !is_good {
            let message =
                format!("`as` is what the plugin calls the directory, and `{guest_path}` is no absolute path");
            table.problem("as", message, Some("Write a path as `/data`.".into()));
        }
        is_good
    });
    table.finish();
    Some(DirectoryGrant { path: path?, guest_path: guest_path?, access })
}

fn missing<T>(table: &mut Table<'_>, key: &'static str, example: &str) -> Option<T> {
    table.missing(key, Some(format!("Write `{key} = \"{example}\"`.")));
    None
}

fn read_http(mut table: Table<'_>) -> Option<HttpGrant> {
    let schemes = [("https", HttpScheme::Https), ("http", HttpScheme::Http)];
    let scheme = table.choice("scheme", &schemes).unwrap_or_default();
    let host = table.required_text("host").and_then(|host| {
        let found = as_in_a_url(&host);
        if found.is_none() {
            let message = format!("`host` is the name or the address of one server, and `{host}` is not");
            let hint = "Write it without scheme, port and path, as in `host = \"api.example.com\"`; `port` and `scheme` are keys.";
            table.problem("host", message, Some(hint.into()));
        }
        found
    });
    let port = table.integer("port", 1..=u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok());
    let methods = table.texts("methods");
    for method in methods.iter().flatten() {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let hint = Some("Write them in capitals, as in `methods = [\"GET\", \"POST\"]`.".into());
            table.problem("methods", format!("`{method}` is not an HTTP method"), hint);
        }
    }
    if methods.as_ref().is_some_and(Vec::is_empty) {
        table.problem("methods", "`methods` is empty", Some("Write `methods = [\"GET\"]`.".into()));
    }
    let private_addresses = table.boolean("private-addresses");
    let connect_timeout = timeout(&mut table, "connect-timeout");
    let timeout = timeout(&mut table, "timeout");
    let (request_bytes, response_bytes) = (table.size("request-bytes"), table.size("response-bytes"));
    table.finish();
    let default = HttpGrant::get(scheme, host?);
    Some(HttpGrant {
        port: port.unwrap_or(default.port),
        methods: methods.unwrap_or(default.methods),
        private_addresses: private_addresses.unwrap_or(default.private_addresses),
        connect_timeout: connect_timeout.unwrap_or(default.connect_timeout),
        timeout: timeout.unwrap_or(default.timeout),
        request_bytes: request_bytes.unwrap_or(default.request_bytes),
        response_bytes: response_bytes.unwrap_or(default.response_bytes),
        ..HttpGrant::get(default.scheme, default.host)
    })
}

fn timeout(table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
    let timeout = table.duration(key)?;
    if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
        table.problem(key, format!("`{key}` must be between 1ms and 1h"), None);
        return None;
    }
    Some(timeout)
}

/// A host as it stands in a URL that has been read: in lower case, an address in its usual form.
fn as_in_a_url(host: &str) -> Option<String> {
    // An address of the new kind stands in brackets there.
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    let is_host_alone = url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && !host.contains(['/', '@', '*', ' ', '\\']);
    url.host_str().filter(|_| is_host_alone).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, expected: Option<&str>) {
        assert_eq!(as_in_a_url(host).as_deref(), expected, "{host}");
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        check("api.example.com", Some("api.example.com"));
        check("API.Example.com", Some("api.example.com"));
        check("bücher.example", Some("xn--bcher-kva.example"));
        check("127.0.0.1", Some("127.0.0.1"));
        check("::1", Some("[::1]"));
        check("[::1]", Some("[::1]"));
        check("https://api.example.com", None);
        check("api.example.com/v1", None);
        check("api.example.com:8080", None);
        check("user@api.example.com", None);
        check("*.example.com", None);
        check("a b", None);
        check("", None);
    }
}
