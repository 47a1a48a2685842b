//! A proxy on loopback between a job and a server of HTTP, which can be told to be away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// They are sent on.
    Open,
    /// They are answered with status 503.
    Refused,
    /// The connection is closed without an answer.
    Closed,
}

/// A proxy. Its threads end with the process.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    way: AtomicU8,
    n_refused: AtomicU64,
}

impl Proxy {
    /// A proxy to a server, on a free port.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn to(server: &str, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}"));
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let shared =
            Arc::new(Shared { server: server.to_owned(), way: AtomicU8::new(way as u8), n_refused: AtomicU64::new(0) });
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = of_thread.clone();
                // A connection that breaks is the client's to see.
                std::thread::spawn(move || drop(shared.serve(&client)));
            }
        });
        Self { address, shared }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Says what becomes of requests from now on.
    pub fn set(&self, way: Way) {
        self.shared.way.store(way as u8, Ordering::SeqCst);
    }

    /// Requests that were not sent on.
    #[must_use]
    pub fn n_refused(&self) -> u64 {
        self.shared.n_refused.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client);
        let (mut head, mut n_bytes) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "connection" => continue,
                "content-length" => n_bytes = line["content-length:".len()..].trim().parse().unwrap_or(0),
                _ => {}
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; n_bytes];
        reader.read_exact(&mut body)?;
        let way = self.way.load(Ordering::SeqCst);
        if way != Way::Open as u8 {
            self.n_refused.fetch_add(1, Ordering::SeqCst);
            if way == Way::Refused as u8 {
                let page = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>";
                let answer = format!(
                    "HTTP/1.1 503 Slow Down\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                );
                (&*client).write_all(answer.as_bytes())?;
            }
            return client.shutdown(Shutdown::Both);
        }
        // One request a connection: its end is that of the answer.
        let mut server = TcpStream::connect(&self.server)?;
        server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
        server.write_all(&body)?;
        std::io::copy(&mut server, &mut &*client)?;
        client.shutdown(Shutdown::Both)
    }
}
