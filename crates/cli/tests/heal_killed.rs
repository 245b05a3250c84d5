//! A training that is killed, or whose disk is full, again and again: nothing of its result changes, and nothing stays
//! behind.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Workplace;
use serde_json::json;

/// Times that a training is killed.
const KILLS: usize = 10;

/// Examples for the pocket model; a training on them takes a few seconds.
fn workplace() -> Workplace {
    let place = Workplace::new(false);
    let row = |i: usize| {
        let (question, answer) = (format!("What is {i} + {i}?"), format!("{i} + {i} = {}", 2 * i));
        json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    };
    let lines: Vec<String> = (0..120).map(|i| row(i).to_string()).collect();
    place.write("rows.jsonl", &lines.join("\n"));
    place
}

/// The state is saved as often as it may be.
const HEAL: &str = "heal pocket --drop 5-11 --data rows.jsonl --epochs 12 --held-out 8 --eval-steps 20 --save-every 0 \
                    --batch 16 --r 4 --dropout 0.1";

/// Trains once without being disturbed; returns how long that took.
fn undisturbed(place: &Workplace) -> Duration {
    let begun = Instant::now();
    place.run(&format!("{HEAL} -o undisturbed"));
    begun.elapsed()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    ["adapter_config.json", "adapter_model.safetensors"]
        .map(|name| (name.to_owned(), std::fs::read(directory.join(name)).unwrap()))
        .to_vec()
}

/// The program, ready to be started.
fn command(place: &Workplace, arguments: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lopper"));
    command.current_dir(place.dir.path()).args(["--threads", "2"]).args(arguments.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_training_that_is_killed_ten_times_gives_the_same_bytes() {
    let place = workplace();
    let whole = undisturbed(&place);
    // Parts of the training's time that look random and are the same each time: SplitMix64.
    let mut seed = 0x9e37u64;
    let mut moment = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        whole.mul_f64(0.1 + 0.25 * ((mixed ^ (mixed >> 27)) % 1000) as f64 / 1000.0)
    };
    let (mut kills, mut continued) = (0, 0);
    while kills < KILLS && !place.path("out").exists() {
        let mut child = command(&place, &format!("{HEAL} -o out")).spawn().unwrap();
        std::thread::sleep(moment());
        // SIGKILL: nothing can be done by the program.
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        continued += usize::from(place.path("out.partial").exists());
    }
    assert!(kills >= 1 && continued >= 1, "killed {kills} times, {continued} times with a saved state");
    if !place.path("out").exists() {
        place.run(&format!("{HEAL} -o out"));
    }
    assert_eq!(files(&place.path("out")), files(&place.path("undisturbed")));
    let curve = |name: &str| place.read_json(&format!("{name}/heal.json"))["stats"]["loss_curve"].clone();
    assert_eq!(curve("out"), curve("undisturbed"));
    assert_eq!(place.names(), ["model", "out", "rows.jsonl", "undisturbed"], "what was killed leaves nothing");
}

/// Fills a small disk of its own at ten moments of a training that takes `$1` milliseconds; frees it, and lets the
/// training be continued.
const FULL_DISK: &str = r#"
set -u
mount -t tmpfs -o size=24m tmpfs disk || exit 77
full=0
for part in 10 12 14 16 18 20 22 24 26 28; do
    moment=$(("$1" * part / 100))
    moment=$((moment / 1000)).$(printf %03d $((moment % 1000)))
    rm -f disk/filler
    [ -e disk/out ] && break
    "${@:2}" -o disk/out > messages 2>&1 &
    child=$!
    sleep "$moment"
    cat /dev/zero > disk/filler 2>/dev/null
    wait "$child"
    status=$?
    if [ "$status" -ne 0 ]; then
        full=$((full + 1))
        grep -qiE "space|full" messages || { cat messages; exit 1; }
    fi
done
rm -f disk/filler
[ -e disk/out ] || "${@:2}" -o disk/out > messages 2>&1 || { cat messages; exit 1; }
ls -A disk
cp -r disk/out saved
echo "failed $full times"
"#;

#[test]
fn a_training_whose_disk_is_full_at_ten_moments_gives_the_same_bytes() {
    let place = workplace();
    // A mount of one's own takes no privileges where user namespaces are allowed; not every container lets it be made.
    let may_mount = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !may_mount.is_ok_and(|run| run.status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: the test of a full disk, which needs a mount of its own");
        return;
    }
    let milliseconds = undisturbed(&place).as_millis().to_string();
    std::fs::create_dir(place.path("disk")).unwrap();
    let mut command = Command::new("unshare");
    command.current_dir(place.dir.path()).args(["-rm", "bash", "-c", FULL_DISK, "bash", &milliseconds]);
    command.arg(assert_cmd::cargo::cargo_bin!("lopper")).args(["--threads", "2"]).args(HEAL.split_whitespace());
    let run = command.output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.starts_with("out\n"), "something stays on the disk: {text}");
    let failed = text.split("failed ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(failed.is_some_and(|failed: usize| failed >= 1), "{text}");
    assert_eq!(files(&place.path("saved")), files(&place.path("undisturbed")), "{text}");
}
