use super::*;

#[test]
fn records_are_those_of_tensorboards_writer() {
    // fixtures/make_tensorboard.py, tensorboard 2.21.0
    let expected = include_bytes!("../../../../../fixtures/tensorboard/events.bin");
    let time = 1_700_000_000.5;
    let first = [scalar("train/loss", 2.5), scalar("train/learning_rate", 2e-4)].concat();
    let second = [scalar("train/loss", 0.0), scalar("train/learning_rate", 1e-4), scalar("eval/loss", 1.75)].concat();
    let events = [
        event(time, 0, FILE_VERSION, VERSION),
        event(time, 3, SUMMARY, &first),
        event(time, 300, SESSION_LOG, &[STATUS << 3, SESSION_START]),
        event(time, 300, SUMMARY, &second),
    ];
    let bytes: Vec<u8> = events.iter().flat_map(|event| record(event)).collect();
    assert_eq!(bytes, expected);
    // The check value of the algorithm's definition.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_continued_run_has_a_file_that_is_read_after_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let entry = |step| LogEntry { step, loss: Some(2.0), ..LogEntry::default() };
    for (begin, end) in [(0, 3), (2, 5)] {
        let log = TensorBoardLog::new(&directory.path().join("runs"));
        log.begin(begin).unwrap();
        (begin..end).for_each(|step| log.record(&entry(step)).unwrap());
        log.record(&LogEntry { step: end, ..LogEntry::default() }).unwrap();
    }
    let files = TensorBoardLog::files(&directory.path().join("runs"), true).unwrap();
    let contents: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    // An event of the version, one of the session's start where it is continued, and one of each step with a value.
    let records = |mut bytes: &[u8]| {
        let mut count = 0;
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let message = &bytes[12..12 + length];
            assert_eq!(bytes[12 + length..16 + length], masked(crc32c(message)).to_le_bytes());
            bytes = &bytes[16 + length..];
            count += 1;
        }
        count
    };
    assert_eq!(contents.iter().map(|bytes| records(bytes)).collect::<Vec<_>>(), [1 + 3, 2 + 3]);

    std::fs::write(directory.path().join("runs/events.out.tfevents.1.machine"), "").unwrap();
    std::fs::write(directory.path().join("runs/notes.txt"), "").unwrap();
    let count = |own| TensorBoardLog::files(&directory.path().join("runs"), own).unwrap().len();
    assert_eq!((count(true), count(false)), (2, 3));
    assert!(TensorBoardLog::files(&directory.path().join("nowhere"), false).unwrap().is_empty());
}
