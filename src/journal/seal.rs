//! Files that nobody can read without a key: what is written goes through XChaCha20-Poly1305, a piece at a time
//! ([ADR 22](../../docs/adr/0022-a-journal-under-a-key.md)).
//!
//! A file begins with [`MAGIC`], what is in it, the name of its key, and where its nonces begin. Each piece behind is
//! its length and what was sealed, under a nonce of its place and whether it is the last one (STREAM): so pieces that
//! were changed, moved, left out or taken from another file cannot be read, and neither can one that was closed and
//! has lost its end.

use super::read::Fault;
use chacha20poly1305::aead::generic_array::GenericArray;
use chacha20poly1305::aead::stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::aead::{KeyInit as _, Payload};
use chacha20poly1305::{Key as Bytes, XChaCha20Poly1305};
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};
use std::path::Path;

/// How a sealed file begins.
pub(super) const MAGIC: &[u8] = b"weir journal sealed 1\n";
/// So much is sealed together at most: as much is lost at most when the machine dies, and held by a reader.
const PIECE: usize = 64 << 10;
/// What a piece is longer by than what is in it.
const TAG: usize = 16;
/// In the length of a piece: it is the last one.
const LAST: u32 = 1 << 31;
/// Behind the magic: what is in it, the name of the key, where the nonces begin.
const HEAD: usize = 1 + size_of::<KeyName>() + size_of::<Nonce>();

type KeyName = [u8; 8];
type Nonce = [u8; 19];

/// The keys of a journal: the first one seals, all of them open.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    name: KeyName,
    cipher: XChaCha20Poly1305,
}

/// Why a text is no keys. It says nothing of what the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKeys {
    /// There is nothing in it.
    #[error("there is no key in it; `openssl rand -hex 32` makes one")]
    None,
    /// One of them is not 32 bytes.
    #[error(
        "key {0} is not 64 hexadecimal digits (32 bytes); `openssl rand -hex 32` makes one, and several stand one a line, the newest first"
    )]
    Malformed(usize),
}

impl Keys {
    /// Reads keys: 64 hexadecimal digits each, between them spaces, lines or commas.
    pub fn parse(text: &str) -> Result<Self, NotKeys> {
        let typed = text.split(|c: char| c.is_whitespace() || c == ',').filter(|part| !part.is_empty());
        let keys = typed.enumerate().map(|(at, text)| Key::parse(text).ok_or(NotKeys::Malformed(at + 1)));
        let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(NotKeys::None) } else { Ok(Self(keys)) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn named(&self, name: KeyName) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        let digest = Sha256::new().chain_update(b"weir journal key\0").chain_update(bytes).finalize();
        let mut name = KeyName::default();
        name.copy_from_slice(&digest[..size_of::<KeyName>()]);
        Some(Self { name, cipher: XChaCha20Poly1305::new(Bytes::from_slice(&bytes)) })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// What is in a sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// Lines, written as they came: it has no end before it is closed.
    Lines = 0,
    /// Lines, compressed when it was closed.
    Compressed = 1,
}

/// Seals what is written. What was flushed can be read; the end must be told by [`Sealing::finish`].
pub(super) struct Sealing<W: Write> {
    to: W,
    head: Vec<u8>,
    /// `None` once it is finished.
    stream: Option<EncryptorBE32<XChaCha20Poly1305>>,
    piece: Vec<u8>,
}

impl<W: Write> Sealing<W> {
    /// Begins a file, under the first of the keys.
    pub(super) fn begin(mut to: W, keys: &Keys, inside: Inside) -> io::Result<Self> {
        let key = keys.0.first().ok_or_else(|| io::Error::other("there is no key to seal with"))?;
        let nonce: Nonce = rand::random();
        let mut head = MAGIC.to_vec();
        head.push(inside as u8);
        head.extend_from_slice(&key.name);
        head.extend_from_slice(&nonce);
        to.write_all(&head)?;
        let stream = EncryptorBE32::from_aead(key.cipher.clone(), GenericArray::from_slice(&nonce));
        Ok(Self { to, head, stream: Some(stream), piece: Vec::with_capacity(PIECE) })
    }

    /// Seals what is left, as the end of the file.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let piece = std::mem::take(&mut self.piece);
        let payload = Payload { msg: &piece, aad: &self.head };
        let stream = self.stream.take().ok_or_else(too_many)?;
        let sealed = stream.encrypt_last(payload).map_err(|_| too_many())?;
        self.put(&sealed, LAST)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn seal(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let payload = Payload { msg: &self.piece, aad: &self.head };
        let stream = self.stream.as_mut().ok_or_else(too_many)?;
        let sealed = stream.encrypt_next(payload).map_err(|_| too_many())?;
        self.piece.clear();
        self.put(&sealed, 0)
    }

    /// One write: a crash between the length and the rest is as seldom as it can be.
    fn put(&mut self, sealed: &[u8], last: u32) -> io::Result<()> {
        let length = u32::try_from(sealed.len()).map_err(|_| too_many())? | last;
        let mut bytes = Vec::with_capacity(4 + sealed.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(sealed);
        self.to.write_all(&bytes)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.seal()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.seal()?;
        self.to.flush()
    }
}

fn too_many() -> io::Error {
    io::Error::other("a sealed file can hold no more pieces")
}

/// Opens what was sealed.
pub(super) struct Opening<R: Read> {
    from: R,
    head: Vec<u8>,
    /// `None` once the last piece was read.
    stream: Option<DecryptorBE32<XChaCha20Poly1305>>,
    inside: Inside,
    piece: Vec<u8>,
    place: usize,
}

impl<R: Read> Opening<R> {
    /// Reads what stands before the pieces, the magic being read already.
    pub(super) fn begin(mut from: R, path: &Path, keys: &Keys) -> Result<Self, Fault> {
        let mut head = MAGIC.to_vec();
        head.resize(MAGIC.len() + HEAD, 0);
        let io = |source| Fault::Io { path: path.to_owned(), source };
        from.read_exact(&mut head[MAGIC.len()..]).map_err(io)?;
        let (inside, rest) = (head[MAGIC.len()], &head[MAGIC.len() + 1..]);
        let inside = match inside {
            0 => Inside::Lines,
            1 => Inside::Compressed,
            _ => return Err(Fault::Changed(path.to_owned())),
        };
        let mut name = KeyName::default();
        let (named, nonce) = rest.split_at(name.len());
        name.copy_from_slice(named);
        let Some(key) = keys.named(name) else {
            let path = path.to_owned();
            return Err(if keys.is_empty() {
                Fault::Sealed(path)
            } else {
                Fault::OtherKey { path, name: hex(name) }
            });
        };
        let stream = DecryptorBE32::from_aead(key.cipher.clone(), GenericArray::from_slice(nonce));
        Ok(Self { from, head, stream: Some(stream), inside, piece: Vec::new(), place: 0 })
    }

    pub(super) fn inside(&self) -> Inside {
        self.inside
    }

    /// Opens the next piece. Whether there is one.
    fn next(&mut self) -> io::Result<bool> {
        let Some(mut stream) = self.stream.take() else {
            // Behind the end there is nothing.
            return if self.from.read(&mut [0])? == 0 { Ok(false) } else { Err(changed()) };
        };
        let mut length = [0u8; 4];
        if let Torn::At(read) = whole(&mut self.from, &mut length)? {
            // One that is being written has no end yet; whatever was closed has one.
            return if read == 0 && self.inside == Inside::Lines { Ok(false) } else { Err(torn()) };
        }
        let length = u32::from_le_bytes(length);
        let (is_last, length) = (length & LAST != 0, (length & !LAST) as usize);
        // A machine that dies may leave zeros where it was about to write.
        if length < TAG {
            return Err(torn());
        }
        if length > PIECE + TAG {
            return Err(changed());
        }
        let mut sealed = vec![0; length];
        if let Torn::At(_) = whole(&mut self.from, &mut sealed)? {
            return Err(torn());
        }
        let payload = Payload { msg: &sealed, aad: &self.head };
        self.piece = if is_last {
            stream.decrypt_last(payload).map_err(|_| changed())?
        } else {
            let opened = stream.decrypt_next(payload).map_err(|_| changed())?;
            self.stream = Some(stream);
            opened
        };
        self.place = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.place == self.piece.len() {
            if !self.next()? {
                return Ok(0);
            }
        }
        let read = into.len().min(self.piece.len() - self.place);
        into[..read].copy_from_slice(&self.piece[self.place..self.place + read]);
        self.place += read;
        Ok(read)
    }
}

enum Torn {
    /// All was read.
    No,
    /// It ended after so many bytes.
    At(usize),
}

/// Reads all of `into`, and tells where it ends if it ends before that.
fn whole(from: &mut impl Read, into: &mut [u8]) -> io::Result<Torn> {
    let mut read = 0;
    while read < into.len() {
        match from.read(&mut into[read..]) {
            Ok(0) => return Ok(Torn::At(read)),
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Torn::No)
}

fn torn() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it has no end")
}

/// What is not as it was sealed.
fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Changed)
}

/// Marks an error as that of a piece that is not as it was sealed.
#[derive(Debug, thiserror::Error)]
#[error("a piece of it is not as it was sealed")]
pub(super) struct Changed;

/// Whether an error says that a piece is not as it was sealed.
pub(super) fn is_changed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.downcast_ref::<Changed>().is_some())
}

fn hex(name: KeyName) -> String {
    name.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(digits: &[char]) -> Keys {
        let text: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
        Keys::parse(&text.join("\n")).unwrap()
    }

    /// Some text, sealed with a flush behind each part; what is not finished has no end.
    fn sealed(keys: &Keys, inside: Inside, parts: &[&[u8]], finished: bool) -> Vec<u8> {
        let mut sealing = Sealing::begin(Vec::new(), keys, inside).unwrap();
        for part in parts {
            sealing.write_all(part).unwrap();
            sealing.flush().unwrap();
        }
        if finished { sealing.finish().unwrap() } else { sealing.to }
    }

    fn opened(bytes: &[u8], keys: &Keys) -> Result<(Vec<u8>, Option<io::Error>), Fault> {
        let mut opening = Opening::begin(&bytes[MAGIC.len()..], Path::new("file"), keys)?;
        let mut text = Vec::new();
        let ended = opening.read_to_end(&mut text).err();
        Ok((text, ended))
    }

    /// Where the pieces begin.
    fn pieces(bytes: &[u8]) -> Vec<usize> {
        let mut places = vec![MAGIC.len() + HEAD];
        while let Some(length) =
            bytes.get(places[places.len() - 1]..).and_then(|rest| rest.first_chunk::<4>())
        {
            places.push(places[places.len() - 1] + 4 + (u32::from_le_bytes(*length) & !LAST) as usize);
        }
        places
    }

    #[test]
    fn what_was_sealed_is_read_again_and_tells_nothing_without_the_key() {
        let text = vec![b'x'; 3 * PIECE + 5];
        for inside in [Inside::Lines, Inside::Compressed] {
            let bytes = sealed(&keys(&['a']), inside, &[&text[..9], &text[9..]], true);
            assert!(!bytes.windows(4).any(|window| window == b"xxxx"));
            let (read, ended) = opened(&bytes, &keys(&['a'])).unwrap();
            assert!(read == text && ended.is_none(), "{} {ended:?}", read.len());
        }
    }

    #[test]
    fn an_older_key_opens_what_it_has_sealed_and_a_wrong_one_is_named() {
        let bytes = sealed(&keys(&['a']), Inside::Lines, &[b"text"], true);
        assert_eq!(opened(&bytes, &keys(&['b', 'a'])).unwrap().0, b"text");
        let wrong = opened(&bytes, &keys(&['b'])).unwrap_err().to_string();
        assert!(wrong.contains("another key") && wrong.contains("journal.key"), "{wrong}");
        let none = opened(&bytes, &Keys::default()).unwrap_err().to_string();
        assert!(none.contains("sealed") && none.contains("journal.key"), "{none}");
    }

    #[test]
    fn what_a_crash_has_cut_off_is_lost_and_nothing_before_it() {
        let bytes = sealed(&keys(&['a']), Inside::Lines, &[b"one", b"two", b"three"], false);
        let (read, ended) = opened(&bytes, &keys(&['a'])).unwrap();
        assert!(read == b"onetwothree" && ended.is_none(), "one that is being written has no end yet");
        let places = pieces(&bytes);
        for cut in 1..places[3] - places[2] {
            let (read, ended) = opened(&bytes[..bytes.len() - cut], &keys(&['a'])).unwrap();
            assert_eq!(read, b"onetwo");
            assert_eq!(ended.unwrap().kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        let zeros = [&bytes[..], &[0; 40]].concat();
        let (read, ended) = opened(&zeros, &keys(&['a'])).unwrap();
        assert_eq!(
            (read.as_slice(), ended.unwrap().kind()),
            (&b"onetwothree"[..], io::ErrorKind::UnexpectedEof)
        );
    }

    #[test]
    fn one_that_was_closed_and_has_lost_its_end_is_known() {
        let bytes = sealed(&keys(&['a']), Inside::Compressed, &[b"one", b"two"], true);
        let places = pieces(&bytes);
        for length in [places[0], places[1], places[2], bytes.len() - 1] {
            let ended = opened(&bytes[..length], &keys(&['a'])).unwrap().1.unwrap();
            assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[test]
    fn whatever_is_changed_moved_or_added_cannot_be_read() {
        let key = keys(&['a']);
        let bytes = sealed(&key, Inside::Lines, &[b"one", b"two", b"six"], true);
        let places = pieces(&bytes);
        let is_changed_from = |bytes: &[u8], before: &[u8]| {
            let (read, ended) = opened(bytes, &key).unwrap();
            assert_eq!(read, before);
            assert!(is_changed(&ended.unwrap()));
        };
        for at in places[1] + 4..places[2] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            is_changed_from(&bytes, b"one");
        }
        let (one, two, six) =
            (&bytes[places[0]..places[1]], &bytes[places[1]..places[2]], &bytes[places[2]..places[3]]);
        let head = &bytes[..places[0]];
        is_changed_from(&[head, two, one, six].concat(), b"");
        is_changed_from(&[head, one, six].concat(), b"one");
        is_changed_from(&[head, one, one, six].concat(), b"one");
        is_changed_from(&[&bytes[..], one].concat(), b"onetwosix");
        // A piece of another file, though of the same key; and one that says that it is something else.
        let other = sealed(&key, Inside::Lines, &[b"two"], true);
        is_changed_from(&[head, &other[places[0]..]].concat(), b"");
        let mut other_inside = bytes.clone();
        other_inside[MAGIC.len()] = Inside::Compressed as u8;
        is_changed_from(&other_inside, b"");
        // A piece that is not the last one, said to be it.
        let mut ended = bytes[..places[2]].to_vec();
        ended[places[1] + 3] |= 0x80;
        is_changed_from(&ended, b"one");
    }

    #[test]
    fn keys_are_read_and_never_told() {
        let text = format!("{}\n{} , {}", "0".repeat(64), "aB".repeat(32), "f".repeat(64));
        let keys = Keys::parse(&text).unwrap();
        assert_eq!((keys.0.len(), format!("{keys:?}").as_str()), (3, "3 keys"));
        assert_eq!(Keys::parse(" \n").unwrap_err(), NotKeys::None);
        for (text, nth) in [("abc", 1), (&format!("{}\nx{}", "a".repeat(64), "b".repeat(63)), 2)] {
            let told = Keys::parse(text).unwrap_err();
            assert_eq!(told, NotKeys::Malformed(nth));
            assert!(!told.to_string().contains("abc"));
        }
    }
}
