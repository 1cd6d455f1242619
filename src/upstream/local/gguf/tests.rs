use super::super::engine::{Engine, tiny};
use super::super::template::Template;
use super::super::tokenizer::Tokenizer;
use super::*;
use proptest::prelude::*;
use std::io::Cursor;

/// A file, piece by piece.
struct File(Vec<u8>);

impl File {
    /// Of version 3, with so many tensors and things said of the model.
    fn new(tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut file = self.u64(text.len() as u64);
        file.0.extend(text.as_bytes());
        file
    }

    fn tensor(self, name: &str, sizes: &[u64], kind: u32, offset: u64) -> Self {
        let file = self.text(name).u32(sizes.len() as u32);
        sizes.iter().fold(file, |file, size| file.u64(*size)).u32(kind).u64(offset)
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.extend(std::iter::repeat_n(0, count));
        self
    }

    fn flaw(self) -> String {
        read(&mut Cursor::new(self.0)).unwrap_err().to_string()
    }
}

#[test]
fn it_reads_what_candle_reads() {
    for family in super::super::about::FAMILIES {
        let mut file = tiny::model(family);
        let theirs = Content::read(&mut file).unwrap();
        let ours = read(&mut file).unwrap();
        assert_eq!(ours.tensor_data_offset, theirs.tensor_data_offset);
        assert_eq!(format!("{:?}", sorted(&ours.metadata)), format!("{:?}", sorted(&theirs.metadata)));
        assert_eq!(
            format!("{:?}", sorted(&ours.tensor_infos)),
            format!("{:?}", sorted(&theirs.tensor_infos))
        );
    }
}

fn sorted<T>(all: &HashMap<String, T>) -> std::collections::BTreeMap<&String, &T> {
    all.iter().collect()
}

#[test]
fn what_is_no_such_file_is_told() {
    let flaw = |bytes: &[u8]| read(&mut Cursor::new(bytes.to_vec())).unwrap_err().to_string();
    assert_eq!(flaw(b""), "it is no GGUF file");
    assert_eq!(flaw(b"GGU"), "it is no GGUF file");
    assert_eq!(flaw(b"PK\x03\x04whatever"), "it is no GGUF file");
    assert_eq!(flaw(b"GGUF"), "it ends within the head");
    assert_eq!(flaw(b"GGUF\x09\0\0\0"), "it is of version 9 of the format; known are 1 to 3");
    assert_eq!(flaw(b"GGUF\x03\0\0\0\x01"), "it ends within the tensors");
}

#[test]
fn counts_and_lengths_are_held_to_what_can_be() {
    let huge = 1 << 62;
    assert_eq!(File::new(huge, 0).flaw(), format!("the tensors: {huge} are more than 65536"));
    assert_eq!(File::new(0, huge).flaw(), format!("what is said of the model: {huge} are more than 65536"));
    assert_eq!(File::new(0, 9).flaw(), "it ends within a key");
    assert_eq!(File::new(0, 1).u64(huge).flaw(), format!("a key: {huge} are more than 65536"));
    assert_eq!(File::new(0, 1).u64(60_000).flaw(), "it ends within a key");
    let key = || File::new(0, 1).text("k");
    assert_eq!(key().u32(8).u64(1000).flaw(), "it ends within k");
    assert_eq!(key().u32(8).u64(u64::MAX).flaw(), format!("k: {} are more than 134217728", u64::MAX));
    assert_eq!(key().u32(13).flaw(), "k: there is no kind 13");
    assert_eq!(key().u32(7).zeros(0).flaw(), "it ends within k");
    assert_eq!(key().u32(7).u32(2).flaw(), "k: it is neither true nor false");
    // A list of bytes takes 32 times as much in memory.
    assert_eq!(key().u32(9).u32(0).u64(1 << 30).flaw(), "k: 1073741824 are more than 4194303");
    assert_eq!(key().u32(9).u32(0).u64(4_000_000).zeros(100).flaw(), "it ends within k");
    assert_eq!(
        File::new(0, 2).text("k").u32(0).zeros(1).text("k").u32(0).zeros(1).flaw(),
        "k is there twice"
    );
}

#[test]
fn many_lists_are_no_more_than_one() {
    let list = |file: File, name: &str| file.text(name).u32(9).u32(0).u64(3_000_000).zeros(3_000_000);
    let file = list(list(File::new(0, 2), "a"), "b");
    assert_eq!(file.flaw(), "b: 3000000 are more than 1194302");
}

#[test]
fn lists_do_not_lie_deep_in_each_other() {
    let deep = |depth: usize| {
        let file = File::new(0, 1).text("k").u32(9);
        (1..depth).fold(file, |file, _| file.u32(9).u64(1)).u32(0).u64(0)
    };
    assert!(read(&mut Cursor::new(deep(DEEPEST).0)).is_ok());
    assert_eq!(deep(DEEPEST + 1).flaw(), "k: lists lie too deep in each other");
}

#[test]
fn tensors_are_held_to_the_file() {
    let tensor = |sizes: &[u64], kind, offset| File::new(1, 0).tensor("t", sizes, kind, offset).zeros(512);
    assert!(read(&mut Cursor::new(tensor(&[32, 4], 8, 0).0)).is_ok());
    for (file, expected) in [
        (tensor(&[1; 5], 0, 0), "tensor \"t\": 5 are more than 4"),
        (tensor(&[32], 99, 0), "tensor \"t\": there is no kind 99"),
        (tensor(&[32], 0, 7), "tensor \"t\": it does not begin where a tensor may"),
        // A product that is small where it is cut off at 64 bits.
        (tensor(&[1 << 33, 1 << 33], 0, 0), "tensor \"t\": it has no size"),
        (tensor(&[1 << 32, 1 << 31, 2], 0, 0), "tensor \"t\": it has no size"),
        (tensor(&[0, 1 << 60], 0, 0), "tensor \"t\": it has no size"),
        (tensor(&[31, 32], 8, 0), "tensor \"t\": its rows are no multiple of what is packed together"),
    ] {
        assert_eq!(file.flaw(), expected);
    }
    assert!(tensor(&[32, 32], 0, 0).flaw().contains("takes 4096 bytes; the file has"));
    assert!(tensor(&[1 << 40, 1 << 20], 0, 0).flaw().contains("tensor \"t\" lies at"));
    assert!(tensor(&[32], 0, u64::MAX - 31).flaw().contains("takes 128 bytes"));
    let twice = File::new(2, 0).tensor("t", &[32], 0, 0).tensor("t", &[32], 0, 0).zeros(512);
    assert_eq!(twice.flaw(), "tensor \"t\" is there twice");
}

#[test]
fn where_tensors_begin_is_a_power_of_two() {
    let file = |alignment: u32| File::new(0, 1).text(ALIGNMENT_KEY).u32(4).u32(alignment);
    assert_eq!(file(0).flaw(), "general.alignment: it is no power of two");
    assert_eq!(file(48).flaw(), "general.alignment: it is no power of two");
    assert!(read(&mut Cursor::new(file(64).0)).is_ok());
    let text = File::new(0, 1).text(ALIGNMENT_KEY).u32(8).text("32");
    assert_eq!(text.flaw(), "general.alignment: it is no number of four bytes");
}

/// What is done to a file: where, from its front or counted by numbers of eight bytes, and what is put there.
#[derive(Clone, Debug)]
enum Harm {
    Byte(usize, u8),
    Number(usize, u64),
    Cut(usize),
    Double(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let numbers = prop_oneof![
        Just(0),
        Just(u64::MAX),
        (0u32..64).prop_map(|bits| 1 << bits),
        any::<u64>(),
        0u64..4096,
    ];
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        4 => (any::<usize>(), numbers).prop_map(|(at, number)| Harm::Number(at, number)),
        1 => any::<usize>().prop_map(Harm::Cut),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Harm::Double(from, to)),
    ]
}

/// The tensors of the tiny models are long, and nothing in them can do harm: most of it is done to what comes before.
fn harmed(mut file: Vec<u8>, head: usize, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let head = head.min(file.len()).max(1);
        match *harm {
            Harm::Byte(at, byte) => file.get_mut(at % head).into_iter().for_each(|old| *old = byte),
            Harm::Number(at, number) => {
                let new = number.to_le_bytes();
                file.iter_mut().skip(at % head).zip(new).for_each(|(old, new)| *old = new);
            }
            Harm::Cut(at) => file.truncate(at % (file.len() + 1)),
            Harm::Double(from, to) => {
                let (from, to) = (from % head, to % head);
                let copied = file[from.min(to)..from.max(to)].to_vec();
                let at = to.min(file.len());
                file.splice(at..at, copied);
            }
        }
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// A model that was tampered with is read or refused; nothing panics, and no more is taken for the head than is
    /// bounded above.
    #[test]
    fn a_file_that_was_tampered_with_is_read_or_refused(
        family in 0..super::super::about::FAMILIES.len(),
        harms in prop::collection::vec(harm(), 1..4),
    ) {
        let file = tiny::model(super::super::about::FAMILIES[family]).into_inner();
        let head = read(&mut Cursor::new(&file)).unwrap().tensor_data_offset as usize;
        let mut file = Cursor::new(harmed(file, head, &harms));
        let Ok(content) = read(&mut file) else { return Ok(()) };
        prop_assert!(content.tensor_data_offset <= LONGEST_HEAD);
        let _ = Template::from_metadata(&content.metadata);
        if Tokenizer::from_metadata(&content.metadata).is_ok() {
            let _ = Engine::load(&content, &mut file, 64);
        }
    }
}
