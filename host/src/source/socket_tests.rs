//! A socket source against real sockets on the loopback device.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;

use super::*;
use crate::block_store::BlockStore;
use crate::clock::SystemClock;
use crate::job::table::read_options;
use crate::source::supervisor::{ReceiverHandle, ReceiverSettings, SourceEvent};

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    handle: ReceiverHandle,
    store: Arc<BlockStore>,
    events: Arc<Mutex<Vec<SourceEvent>>>,
}

impl Running {
    fn start(source: &SocketSource, budget_bytes: u64) -> Self {
        let OpenSource::Receiver(receiver) = source.open().expect("a good address") else {
            panic!("a socket is a receiver");
        };
        let store = Arc::new(BlockStore::new(budget_bytes));
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let settings = ReceiverSettings {
            job: "job".into(),
            source: "lines".into(),
            index: 0,
            schema: source.schema().expect("text"),
            store: Arc::clone(&store),
            log: None,
            clock: Arc::new(SystemClock::new()),
            observer: Some(Arc::new(move |event| heard.lock().expect("not poisoned").push(event.clone()))),
        };
        let handle = ReceiverHandle::start(settings, receiver).expect("threads can be started");
        Self { handle, store, events }
    }

    /// Takes what has come, until there are `n_lines` or the source has ended.
    fn take(&self, n_lines: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < n_lines {
            let some = self.store.wait_for_rows(PATIENCE);
            assert!(some || self.handle.is_finished(), "waited 20 s for {n_lines} lines, got {}", lines.len());
            if !some {
                break;
            }
            let ids: Vec<_> = self.store.allocate(0, u64::MAX).iter().map(|meta| meta.id).collect();
            for id in &ids {
                let rows = self.store.get(*id).expect("allocated");
                lines.extend(rows.column(0).as_string::<i32>().iter().map(|line| line.expect("no nulls").to_owned()));
            }
            self.store.release(&ids);
        }
        lines
    }
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().expect("the source connects").0
}

#[test]
fn lines_come_through_and_the_last_one_needs_no_end() {
    let (listener, address) = listen();
    let running = Running::start(&SocketSource { reconnect: false, ..SocketSource::new(address) }, 1 << 20);
    let mut server = accept(&listener);
    server.write_all(b"one\ntwo\r\n").expect("sent");
    assert_eq!(running.take(2), ["one", "two"]);
    server.write_all("dr\u{e9}i".as_bytes()).expect("sent");
    drop(server);
    assert_eq!(running.take(1), ["dr\u{e9}i"]);
    assert!(running.handle.join(PATIENCE));
    assert_eq!(*running.events.lock().expect("not poisoned"), [SourceEvent::Ended]);
    assert_eq!(running.handle.counters().snapshot().connections, 1);
}

#[test]
fn it_reconnects_and_waits_for_a_server_that_is_down() {
    let (listener, address) = listen();
    let running = Running::start(&SocketSource::new(&address), 1 << 20);
    accept(&listener).write_all(b"before\n").expect("sent");
    assert_eq!(running.take(1), ["before"]);
    drop(listener);
    while running.handle.counters().snapshot().failures < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    let listener = TcpListener::bind(&address).expect("the port is ours again");
    let mut server = accept(&listener);
    server.write_all(b"after\n").expect("sent");
    assert_eq!(running.take(1), ["after"]);
    let events = running.events.lock().expect("not poisoned").clone();
    assert!(matches!(&events[0], SourceEvent::Failed { error, .. } if error.ends_with("closed the connection")));
    assert!(matches!(&events[1], SourceEvent::Failed { error, .. } if error.starts_with("cannot connect to")));
    running.handle.stop();
    assert!(running.handle.join(PATIENCE), "an idle connection does not hold up a stop");
}

#[test]
fn lines_may_be_json_and_a_bad_one_may_end_the_source() {
    let (listener, address) = listen();
    let schema = crate::source::schema::parse_schema(&[("value".into(), "utf8".into())]).expect("a right type");
    let format = LineFormat::Json(schema);
    let source = SocketSource { format: format.clone(), ..SocketSource::new(&address) };
    let running = Running::start(&source, 1 << 20);
    let mut server = accept(&listener);
    server.write_all(b"{\"value\": \"one\"}\nnonsense\n{\"value\": \"two\"}\n").expect("sent");
    assert_eq!(running.take(2), ["one", "two"]);
    assert_eq!(running.handle.counters().snapshot().rejected_rows, 1);
    running.handle.stop();
    assert!(running.handle.join(PATIENCE));

    let source = SocketSource { format, bad_rows: BadRows::Fail, ..SocketSource::new(&address) };
    let running = Running::start(&source, 1 << 20);
    let mut server = accept(&listener);
    server.write_all(b"{\"value\": \"one\"}\n").expect("sent");
    assert_eq!(running.take(1), ["one"]);
    server.write_all(b"nonsense\n").expect("sent");
    assert!(running.handle.join(PATIENCE), "it is not run again");
    let error = running.handle.take_failure().expect("a row was bad").to_string();
    assert_eq!(error, format!("the row at byte 17 of `{address}` cannot be read: `nonsense`: it is no JSON object"));
}

#[test]
fn a_long_line_is_refused_and_the_next_one_is_not_lost() {
    let (listener, address) = listen();
    let lines = LineOptions { line_bytes_max: 1_000, ..LineOptions::default() };
    let source = SocketSource { reconnect: false, lines, ..SocketSource::new(address) };
    let running = Running::start(&source, 1 << 20);
    let mut server = accept(&listener);
    server.write_all(b"first\n").expect("sent");
    server.write_all(&vec![b'x'; 3 << 20]).expect("sent");
    server.write_all(b"\nsecond\nbad \xff\n").expect("sent");
    drop(server);
    assert_eq!(running.take(3), ["first", "second", "bad \u{fffd}"]);
    // Rows are counted when they are in the store: a moment after they can be taken.
    assert!(running.handle.join(Duration::from_secs(60)), "the source ends with its connection");
    let seen = running.handle.counters().snapshot();
    assert_eq!((seen.refused_lines, seen.invalid_utf8_lines, seen.rows), (1, 1, 3));
}

#[test]
fn a_full_store_slows_the_sender_and_nothing_is_lost() {
    const N_LINES: usize = 200_000;
    let (listener, address) = listen();
    let running = Running::start(&SocketSource { reconnect: false, ..SocketSource::new(address) }, 300_000);
    let sender = thread::spawn(move || {
        let mut server = accept(&listener);
        let mut text = Vec::new();
        for number in 0..N_LINES {
            writeln!(text, "line number {number}").expect("a vector takes all");
        }
        server.write_all(&text).expect("sent");
    });
    let lines = running.take(N_LINES);
    sender.join().expect("does not panic");
    assert_eq!(lines.len(), N_LINES);
    assert!(lines.iter().enumerate().all(|(number, line)| *line == format!("line number {number}")));
    assert!(running.store.held().peak_bytes <= 600_000, "{:?}", running.store.held());
}

#[test]
fn a_stop_leaves_a_half_line_and_counts_it() {
    let (listener, address) = listen();
    let running = Running::start(&SocketSource::new(address), 1 << 20);
    let mut server = accept(&listener);
    server.write_all(b"whole\nhal").expect("sent");
    assert_eq!(running.take(1), ["whole"]);
    running.handle.stop();
    assert!(running.handle.join(PATIENCE));
    assert_eq!(running.handle.counters().snapshot().cut_lines, 1);
}

#[track_caller]
fn check_address_message(address: &str, expected: Option<&str>) {
    assert_eq!(check_address(address).err().map(|error| error.to_string()).as_deref(), expected);
}

#[test]
fn addresses_are_checked() {
    check_address_message("localhost:9999", None);
    check_address_message("[::1]:9999", None);
    check_address_message("localhost", Some("address `localhost` has no port"));
    check_address_message(":9999", Some("address `:9999` has no host"));
    check_address_message("::1:9999", Some("address `::1:9999` needs brackets around its host, as in `[::1]:9999`"));
    check_address_message("localhost:http", Some("address `localhost:http` needs a port from 1 to 65535"));
    check_address_message("localhost:0", Some("address `localhost:0` needs a port from 1 to 65535"));
}

#[test]
fn options_are_read() {
    let read = |text: &str| read_options(text, Path::new("."), SocketSource::parse);
    assert_eq!(read("address = 'a:1'"), Ok(Some(SocketSource::new("a:1"))));
    let all = "address = 'a:1'\nreconnect = false\nconnect-timeout = '2s'\nmax-line-bytes = '4KiB'\ninvalid = 'drop'";
    let expected = SocketSource {
        address: "a:1".into(),
        reconnect: false,
        connect_timeout: Duration::from_secs(2),
        lines: LineOptions { line_bytes_max: 4096, invalid: super::super::lines::InvalidUtf8::Drop },
        ..SocketSource::new("")
    };
    assert_eq!(read(all), Ok(Some(expected)));
    let problems = read("address = 'a'\nreconect = true\nmax-line-bytes = '1GiB'").expect_err("three mistakes");
    assert_eq!(problems.len(), 3);
}
