//! What a plugin reaches with a grant and without: directories, variables, servers, real time, real random numbers.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_tests::{Ended, Running, folder, plugin, run, wait_for, written_lines};

/// Writes a job whose one step runs `reach`, with its rows.
fn write_job(place: &Path, deed: &str, keys: &str, rows: &[&str]) {
    std::fs::write(place.join("in.txt"), rows.join("\n") + "\n").expect("a new file");
    let reach = plugin("reach");
    let text = format!(
        "[job]\nname = 'reach'\ntrigger = 'available-now'\npartitions = 1\n\n[[source]]\nname = 'asked'\ntype = 'file'\n\
         path = 'in.txt'\nformat = 'text'\n\n[[step]]\nname = 'reaching'\nfrom = 'asked'\ntransform = '{}'\n\
         config = {{ do = '{deed}' }}\n{keys}\n\n[[sink]]\nfrom = 'reaching'\ntype = 'file'\npath = 'out'\nformat = 'text'\n",
        reach.display()
    );
    std::fs::write(place.join("job.toml"), text).expect("a new file");
}

/// A grant of HTTP that the plugin needs to be loaded at all, to a server that is not there.
const NOWHERE: &str = "grants.http = [{ host = 'nowhere.invalid' }]";

#[track_caller]
fn job(place: &Path, deed: &str, keys: &str, rows: &[&str]) -> Ended {
    // Each run has its own rows alone.
    let _ = std::fs::remove_dir_all(place.join("out"));
    write_job(place, deed, keys, rows);
    run(place, &["run", "job.toml"])
}

/// The rows that come of `rows`, sorted.
#[track_caller]
fn seen(place: &Path, deed: &str, keys: &str, rows: &[&str]) -> Vec<String> {
    let ended = job(place, deed, keys, rows);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    written_lines(&place.join("out"))
}

#[track_caller]
fn check(place: &Path, deed: &str, keys: &str, row: &str, expected: &str) {
    assert_eq!(seen(place, deed, keys, &[row]), [expected], "{deed} {row}");
}

/// A job that fails, and what it says.
#[track_caller]
fn failing(place: &Path, deed: &str, keys: &str, row: &str) -> String {
    let ended = job(place, deed, keys, &[row]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    ended.stderr
}

#[test]
fn a_plugin_that_imports_http_is_refused_without_the_grant() {
    let place = folder();
    let ended = job(place.path(), "echo", "", &["x"]);
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("which is access to HTTP servers, and nothing grants it"), "{}", ended.stderr);
    let hint = "give its step `grants = { http = [{ host = \"api.example.com\", methods = [\"GET\"] }] }`";
    assert!(ended.stderr.contains(hint), "{}", ended.stderr);
}

#[test]
fn check_lists_what_a_plugin_asks_for_and_gets() {
    let place = folder();
    std::fs::create_dir(place.path().join("data")).expect("a new folder");
    let grants = "[step.grants]\ndirectories = [{ path = 'data', as = '/data', access = 'write' }]\n\
                  environment = { TOKEN = 'very-secret', REGION = 'eu' }\nclock = 'real'\nrandom = 'real'\n\
                  http = [{ host = 'api.example.com', methods = ['GET', 'POST'] }]";
    write_job(place.path(), "echo", grants, &["x"]);
    let ended = run(place.path(), &["check", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let asks = "asks for tidemill:operator, wasi:cli, wasi:cli (grant environment), wasi:clocks (grant clock), wasi:filesystem \
                (grant directories), wasi:http (grant http), wasi:io, wasi:random (grant random)";
    let gets = "grants read and write ./data as /data, environment TOKEN REGION, http GET POST https://api.example.com:443, the real \
                clock, real random numbers";
    for part in [asks, gets] {
        assert!(ended.stdout.contains(part), "{}\n--- is not in\n{}", part, ended.stdout);
    }
    assert!(!ended.stdout.contains("very-secret"), "{}", ended.stdout);
}

#[test]
fn a_directory_is_read_and_nothing_beside_it() {
    let place = folder();
    let path = place.path();
    std::fs::create_dir_all(path.join("data/sub")).expect("a new folder");
    std::fs::write(path.join("data/a.txt"), "inside").expect("a new file");
    std::fs::write(path.join("secret.txt"), "outside").expect("a new file");
    std::os::unix::fs::symlink("../secret.txt", path.join("data/link")).expect("a link");
    std::os::unix::fs::symlink("/etc", path.join("data/etc")).expect("a link");
    std::os::unix::fs::symlink("a.txt", path.join("data/good")).expect("a link");
    let read = format!("{NOWHERE}\ngrants.directories = [{{ path = 'data', as = '/data' }}]");
    check(path, "read", &read, "/data/a.txt", "inside");
    check(path, "read", &read, "/data/good", "inside");
    check(path, "read", &read, "/data/sub/../a.txt", "inside");
    check(path, "list", &read, "/data", "a.txt etc good link sub");
    for outside in ["/data/link", "/data/../secret.txt", "/data/etc/passwd", "/data/sub/../../secret.txt"] {
        check(path, "read", &read, outside, "error: Operation not permitted (os error 63)");
    }
    let absolute = path.join("secret.txt").display().to_string();
    for outside in ["/etc/passwd", "secret.txt", &*absolute] {
        check(path, "read", &read, outside, "error: No such file or directory (os error 44)");
    }
    // Granted to read.
    for (deed, row) in [("write", "/data/a.txt x"), ("append", "/data/a.txt x"), ("write", "/data/new.txt x")] {
        check(path, deed, &read, row, "error: Operation not permitted (os error 63)");
    }
    check(path, "remove", &read, "/data/a.txt", "error: Operation not permitted (os error 63)");
    check(path, "rename", &read, "/data/a.txt /data/b.txt", "error: Operation not permitted (os error 63)");
    assert_eq!(std::fs::read_to_string(path.join("data/a.txt")).expect("it is still there"), "inside");
    assert!(!path.join("data/new.txt").exists());
    // The log says what would have allowed it.
    let ended = job(path, "write", &read, &["/data/a.txt x"]);
    assert!(ended.stderr.contains("denied: `open-at` of `a.txt`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`access = \"write\"`"), "{}", ended.stderr);
    // And so does a call that fails for it.
    let said = failing(path, "fail-after", &read, "/data/link");
    assert!(said.contains("crashed: it aborted; it had been denied `open-at` of `link`"), "{said}");
    // Without a grant there is no directory at all.
    check(path, "read", NOWHERE, "/data/a.txt", "error: No such file or directory (os error 44)");
}

#[test]
fn a_directory_is_written_within_a_limit() {
    let place = folder();
    let path = place.path();
    std::fs::create_dir(path.join("data")).expect("a new folder");
    let write = format!("{NOWHERE}\ngrants.directories = [{{ path = 'data', as = '/data', access = 'write' }}]");
    check(path, "write", &write, "/data/a.txt hello", "wrote 5");
    check(path, "append", &write, "/data/a.txt world", "appended");
    assert_eq!(std::fs::read_to_string(path.join("data/a.txt")).expect("a new file"), "helloworld\n");
    check(path, "rename", &write, "/data/a.txt /data/b.txt", "renamed");
    check(path, "remove", &write, "/data/b.txt", "removed");
    check(path, "write", &write, "/data/../out.txt x", "error: Operation not permitted (os error 63)");
    assert!(!path.join("out.txt").exists());
    // A guest's own links lead nowhere out either.
    let rows = seen(path, "link", &write, &["../secret.txt up", "/etc/passwd absolute"]);
    assert!(rows.iter().any(|row| row.contains("error")), "{rows:?}");
    std::fs::write(path.join("secret.txt"), "outside").expect("a new file");
    check(path, "read", &write, "/data/up", "error: Operation not permitted (os error 63)");

    let limited = format!("{write}\nlimits.file-bytes-per-call = '100KiB'");
    let said = failing(path, "write-for-ever", &limited, "/data/big");
    assert!(said.contains("exceeded its bytes written to files per call: the limit is 100KiB"), "{said}");
    assert!(said.contains("Raise `file-bytes-per-call` in the `limits` of step `reaching`"), "{said}");
    assert!(std::fs::metadata(path.join("data/big")).expect("what fitted").len() <= 100 << 10);
    let said = failing(path, "grow", &limited, "/data/large");
    assert!(said.contains("the limit is 100KiB, the plugin wrote 1024GiB"), "{said}");
}

#[test]
fn a_plugin_sees_the_variables_it_is_granted() {
    let place = folder();
    let granted =
        format!("{NOWHERE}\ngrants.environment = {{ REGION = 'eu', PLACE = '${{TIDEMILL_TEST_NONE:-here}}' }}");
    check(place.path(), "variable", &granted, "REGION", "eu");
    check(place.path(), "variable", &granted, "PLACE", "here");
    check(place.path(), "variable", &granted, "PATH", "error: environment variable not found");
    check(place.path(), "variable", NOWHERE, "REGION", "error: environment variable not found");
}

#[test]
fn real_time_and_real_random_numbers_are_granted() {
    let place = folder();
    let rows = ["a", "b", "c"];
    let different = |deed: &str, keys: &str, rows: &[&str]| {
        let seen = seen(place.path(), deed, keys, rows);
        seen.into_iter().collect::<BTreeSet<_>>()
    };
    // One call, one time: that of its batch. With the grant each row is a moment later.
    assert_eq!(different("clock", NOWHERE, &rows).len(), 1);
    let slow: Vec<String> = (0..2000).map(|row| row.to_string()).collect();
    let slow: Vec<&str> = slow.iter().map(String::as_str).collect();
    assert!(different("clock", &format!("{NOWHERE}\ngrants.clock = 'real'"), &slow).len() > 1);
    check(place.path(), "sleep", &format!("{NOWHERE}\ngrants.clock = 'real'"), "30", "slept true");
    // The same batch of the same job has the same numbers.
    let seeded = different("random", NOWHERE, &rows);
    assert_eq!(seeded, different("random", NOWHERE, &rows));
    let real = format!("{NOWHERE}\ngrants.random = 'real'");
    assert_ne!(different("random", &real, &rows), different("random", &real, &rows));
    // A real sleep is ended by the call's time.
    let sleep = format!("{NOWHERE}\ngrants.clock = 'real'\nlimits.time-per-call = '200ms'\non-error = 'skip-batch'");
    let ended = job(place.path(), "sleep", &sleep, &["3600000"]);
    assert!(ended.stderr.contains("exceeded its time per call: the limit is 200ms"), "{}", ended.stderr);
}

/// A server of HTTP on loopback, with a thread for each connection.
struct Server {
    port: u16,
    /// How many requests came.
    requests: Arc<AtomicU64>,
}

impl Server {
    /// A server that redirects `/redirect` to `elsewhere`.
    fn start(elsewhere: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it has one").port();
        let requests = Arc::<AtomicU64>::default();
        let counted = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (elsewhere, counted) = (elsewhere.clone(), counted.clone());
                std::thread::spawn(move || answer(connection, &elsewhere, &counted));
            }
        });
        Self { port, requests }
    }

    fn grant(&self, more: &str) -> String {
        format!("grants.http = [{{ host = '127.0.0.1', scheme = 'http', port = {}{more} }}]", self.port)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// Answers the requests of a connection; an error is a client that has gone.
fn answer(connection: TcpStream, elsewhere: &str, requests: &AtomicU64) {
    let mut reader = BufReader::new(connection.try_clone().expect("a second handle"));
    let mut writer = connection;
    while answer_one(&mut reader, &mut writer, elsewhere, requests).is_ok() {}
}

fn answer_one(
    reader: &mut impl BufRead,
    writer: &mut impl Write,
    elsewhere: &str,
    requests: &AtomicU64,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&head).into_owned();
    let (method, path) = head.split_once(' ').unwrap_or_default();
    let path = path.split(' ').next().unwrap_or_default();
    let mut n_bytes = 0;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let mut part = vec![0; size + 2];
            reader.read_exact(&mut part)?;
            n_bytes += size;
            if size == 0 {
                break;
            }
        }
    }
    match path {
        "/hello" => writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        "/echo" => {
            let text = format!("{method} {n_bytes}");
            write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
        }
        "/redirect" => write!(writer, "HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"),
        // Nothing ever comes; the client goes when it has waited long enough.
        "/silent" => reader.read_until(b'\n', &mut Vec::new()).map(|_| ()),
        "/half" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
            reader.read_until(b'\n', &mut Vec::new()).map(|_| ())
        }
        "/endless" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                writer.write_all(&[b'x'; 4096])?;
            }
        }
        "/large" => writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nstart"),
        _ => writer.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
    }
}

#[test]
fn a_server_is_reached_when_it_is_granted() {
    let place = folder();
    let server = Server::start(String::new());
    let granted = server.grant(", methods = ['GET', 'POST']");
    let get = |path: &str| format!("GET {}", server.url(path));
    let rows = seen(place.path(), "request", &granted, &[&get("/hello"), &get("/hello?a=b"), &get("/echo")]);
    assert_eq!(rows, ["200 GET 0", "200 hello", "404 "]);
    check(place.path(), "post", &granted, &format!("{} body", server.url("/echo")), "200 POST 4");
    let denied = "error: ErrorCode::HttpRequestDenied";
    let denials = [
        format!("DELETE {}", server.url("/hello")),
        format!("GET http://localhost:{}/hello", server.port),
        format!("GET https://127.0.0.1:{}/hello", server.port),
        "GET http://127.0.0.1:1/hello".to_owned(),
        "GET http://example.com/hello".to_owned(),
    ];
    for row in &denials {
        check(place.path(), "request", &granted, row, denied);
    }
    let unknown = "error: ErrorCode::DnsError(DnsErrorPayload { rcode: None, info-code: None })";
    check(place.path(), "request", NOWHERE, "GET https://nowhere.invalid/", unknown);
    let user = format!("GET http://user@127.0.0.1:{}/hello", server.port);
    let seen = seen(place.path(), "request", &granted, &[&user]);
    assert!(seen[0].starts_with("error: "), "{seen:?}");
    let ended = job(place.path(), "request", &granted, &[&denials[0]]);
    let said = format!("denied: `DELETE` to `http://127.0.0.1:{}`: no entry of `grants.http` names", server.port);
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
}

#[test]
fn a_name_that_stands_for_this_machine_is_not_reached_unless_that_is_said() {
    let place = folder();
    let server = Server::start(String::new());
    let named =
        |more: &str| format!("grants.http = [{{ host = 'localhost', scheme = 'http', port = {}{more} }}]", server.port);
    let row = format!("GET http://localhost:{}/hello", server.port);
    check(place.path(), "request", &named(""), &row, "error: ErrorCode::DestinationIpProhibited");
    check(place.path(), "request", &named(", private-addresses = true"), &row, "200 hello");
}

#[test]
fn a_redirect_leads_only_to_where_is_granted() {
    let place = folder();
    let other = Server::start(String::new());
    let server = Server::start(other.url("/hello"));
    let row = server.url("/redirect");
    check(place.path(), "follow", &server.grant(""), &row, "302 then error: ErrorCode::HttpRequestDenied");
    let both = format!(
        "grants.http = [{{ host = '127.0.0.1', scheme = 'http', port = {} }}, {{ host = '127.0.0.1', scheme = 'http', port = {} }}]",
        server.port, other.port
    );
    check(place.path(), "follow", &both, &row, "302 then 200 hello");
}

#[test]
fn a_server_that_does_not_answer_or_answers_without_end_is_given_up() {
    let place = folder();
    let server = Server::start(String::new());
    let get = |path: &str| format!("GET {}", server.url(path));
    let short = server.grant(", timeout = '200ms'");
    check(place.path(), "request", &short, &get("/silent"), "error: ErrorCode::HttpResponseTimeout");
    let late = seen(place.path(), "request", &short, &[&get("/half")]);
    assert!(late[0].starts_with("error in the body: ") && late[0].contains("timeout"), "{late:?}");
    let small = server.grant(", response-bytes = '10KiB', request-bytes = '10KiB', methods = ['GET', 'POST']");
    let endless = seen(place.path(), "request", &small, &[&get("/endless")]);
    assert!(endless[0].starts_with("error in the body: ") && endless[0].contains("10240 bytes"), "{endless:?}");
    check(place.path(), "request", &small, &get("/large"), "error: ErrorCode::HttpResponseBodySize(Some(10240))");
    let too_much = "error: ErrorCode::HttpRequestBodySize(Some(10240))";
    check(place.path(), "post-for-ever", &small, &server.url("/echo"), too_much);
    // Whatever the grant says, the call is over when it is over.
    let patient = format!("{}\nlimits.time-per-call = '200ms'\non-error = 'skip-batch'", server.grant(""));
    let ended = job(place.path(), "request", &patient, &[&get("/silent")]);
    assert!(ended.stderr.contains("exceeded its time per call: the limit is 200ms"), "{}", ended.stderr);
    let few = format!("{}\nlimits.http-requests-per-call = 3", server.grant(""));
    let said = failing(place.path(), "request-for-ever", &few, &server.url("/hello"));
    assert!(said.contains("exceeded its HTTP requests per call: the limit is 3, the plugin sent more"), "{said}");
}

#[test]
fn a_plugin_that_waits_for_a_server_is_ended_when_the_job_is_stopped_at_once() {
    let place = folder();
    let server = Server::start(String::new());
    let keys = format!("{}\nlimits.time-per-call = '1h'", server.grant(", timeout = '1h'"));
    write_job(place.path(), "request", &keys, &[&format!("GET {}", server.url("/silent"))]);
    let running = Running::start(place.path(), &["run", "job.toml", "--format", "json"]);
    // It waits as soon as the server has its request.
    wait_for("the request", || (server.requests.load(Ordering::SeqCst) > 0).then_some(()));
    running.signal("INT");
    // Signals do not queue: only when the first has been taken is the next a second.
    wait_for("the first to be taken", || running.stderr().contains(r#""event":"stopping""#).then_some(()));
    running.signal("INT");
    assert_eq!(running.wait().code(), 1);
}
