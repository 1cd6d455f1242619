//! Just enough HTTP/1.1 for both ends of a measurement: one message at a time, kept alive, with a length or in
//! chunks. Blocking, because a thread that waits for one socket wakes sooner than a runtime that waits for many.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than any answer here takes; what passes it is a failure, not a slow answer.
const READ_DEADLINE: Duration = Duration::from_secs(20);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Larger than any message here, so that one read usually takes all of it.
const READ_SIZE: usize = 16 * 1024;

/// One end of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    held: Vec<u8>,
}

/// A whole message.
pub(crate) struct Message<'a> {
    /// The first line and the headers.
    pub(crate) head: &'a str,
    /// The body as it came: chunks are not taken apart.
    pub(crate) body: &'a [u8],
    /// When the body's first byte was there.
    pub(crate) first_byte: Instant,
}

impl Wire {
    /// To a server.
    pub(crate) fn dial(address: SocketAddr) -> io::Result<Self> {
        let wire = Self::over(TcpStream::connect_timeout(&address, CONNECT_DEADLINE)?)?;
        wire.stream.set_read_timeout(Some(READ_DEADLINE))?;
        Ok(wire)
    }

    /// From a client, which may take as long as it likes between two requests.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, held: Vec::with_capacity(READ_SIZE) })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message; `None` when the other end has closed between two.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Message<'_>>> {
        self.held.clear();
        let body_start = loop {
            if let Some(end) = find(&self.held, b"\r\n\r\n") {
                break end + 4;
            }
            if self.read_more()? == 0 {
                return if self.held.is_empty() { Ok(None) } else { Err(cut()) };
            }
        };
        let framing = Framing::of(head(&self.held[..body_start])?);
        let mut first_byte = Instant::now();
        while !framing.is_complete(&self.held[body_start..]) {
            let nothing_yet = self.held.len() == body_start;
            if self.read_more()? == 0 {
                return Err(cut());
            }
            if nothing_yet {
                first_byte = Instant::now();
            }
        }
        let (head_bytes, body) = self.held.split_at(body_start);
        Ok(Some(Message { head: head(head_bytes)?, body, first_byte }))
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let filled = self.held.len();
        self.held.resize(filled + READ_SIZE, 0);
        let read = self.stream.read(&mut self.held[filled..]);
        self.held.truncate(filled + read.as_ref().copied().unwrap_or(0));
        read
    }
}

impl Message<'_> {
    /// Of a response; 0 when its first line has none.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunks,
}

impl Framing {
    fn of(head: &str) -> Self {
        let chunked = header(head, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let length = || header(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        if chunked { Self::Chunks } else { Self::Length(length()) }
    }

    fn is_complete(&self, body: &[u8]) -> bool {
        match self {
            Self::Length(length) => body.len() >= *length,
            // Enough here, where no chunk holds these bytes itself.
            Self::Chunks => body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n"),
        }
    }
}

fn head(bytes: &[u8]) -> io::Result<&str> {
    str::from_utf8(bytes).map_err(io::Error::other)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection closed inside a message")
}
