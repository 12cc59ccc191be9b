//! The table of settings: name, group, what it does, what is allowed, how it is set and shown.
//!
//! In:   the text of one value.
//! Out:  the value in `Settings`, or `Refused`; and back to the text of a settings file.
//! Law:  every setting but `[[router]]` is one entry here, and nothing else knows its range.
//! Not:  where the text comes from (`settings`, `settings::file`).

use std::fmt::Write as _;

use ipnet::IpNet;

use super::{
    IoChoice, LogFormat, MEMORY_BYTES_MIN, Refused, SHARDS_MAX, SettingError, Settings, toml_list,
};

/// When a new value of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// At the next start.
    Process,
    /// At SIGHUP too, without touching a session.
    Reload,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file; in capitals behind `STORMDRAIN_` that of its variable.
    pub name: &'static str,
    /// When a new value takes effect.
    pub group: Group,
    /// What it does, and why one would change it.
    pub help: &'static str,
    /// What is allowed, in words.
    pub allowed: &'static str,
    /// Takes the value from text.
    pub set: fn(&mut Settings, &str) -> Result<(), Refused>,
    /// The value as a settings file would write it.
    pub get: fn(&Settings) -> String,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("{}{}", super::VARIABLE_PREFIX, self.name.to_uppercase())
    }
}

/// The setting of that name, or an error with the most alike.
pub(super) fn find(name: &str) -> Result<&'static Setting, SettingError> {
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        let nearest = nearest(name, SETTINGS.iter().map(|setting| setting.name));
        SettingError::Unknown { name: name.to_owned(), nearest }
    })
}

/// The page docs/settings.md, in full.
pub fn page() -> String {
    let defaults = Settings::default();
    let mut page = String::from(PAGE_HEAD);
    for setting in SETTINGS {
        let group = match setting.group {
            Group::Process => "at start",
            Group::Reload => "at start and at SIGHUP",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n### `{}`\n\n{}\n\n- default: `{}`\n- allowed: {}\n- read: {group}\n\
             - variable: `{}`\n",
            setting.name,
            setting.help,
            (setting.get)(&defaults),
            setting.allowed,
            setting.variable(),
        );
    }
    page.push_str(PAGE_TAIL);
    page
}

const PAGE_HEAD: &str = "\
# Settings

This page is written from the table in `engine/src/settings/table.rs`; a test compares the two.

A value comes from, each layer over the one before: the default, the file given with `--config`
(TOML), the environment variable, the flag of `stormdrain run`.
Sizes in bytes may carry a unit: `512MiB`, `4GiB`, `64kB`.
An unknown name in the file and a value outside its range stop the start, and the message says what
is allowed. `stormdrain run` prints every value that is in effect before it listens, and how many
routers the file names.
No setting is stored in the data folder: any collector can open any folder.
";

const PAGE_TAIL: &str = "
## Routers

One `[[router]]` for each router that the operator wants to name or to bind; read at start and at
SIGHUP.

```toml
[[router]]
id = \"192.0.2.1\"               # the router id that the router itself uses
name = \"pe1\"                   # may stand for the id in every command
addresses = [\"10.0.0.1\"]       # interface addresses: next hops that lead to this router
sources = [\"10.0.0.0/30\"]      # where its connections come from
```

Where a link has no numbers, or its addresses are those of many links, `interfaces` says what is
behind it. Each has a name, an address, or both; and, as far as it is known, the router at the other
end, and the label table in which labels that come in there are looked up (0 = the platform's).

```toml
# p1 and pe2 over a link without numbers, and over one that has link-local addresses alone
[[router]]
id = \"192.0.2.1\"
name = \"p1\"
interfaces = [
    { name = \"ge-0/0/1\", neighbour = \"192.0.2.2\" },
    { name = \"ge-0/0/2\", address = \"fe80::1\", neighbour = \"192.0.2.2\" },
]

[[router]]
id = \"192.0.2.2\"
name = \"pe2\"
interfaces = [
    { name = \"xe-1/0/0\", neighbour = \"192.0.2.1\" },
    { name = \"xe-1/0/1\", address = \"fe80::1\", neighbour = \"192.0.2.1\" },
    { name = \"xe-2/0/0.7\", address = \"10.7.0.1\", table = 7 },
]
```

A branch is followed by the first of these that says anything: the neighbour that the branch names;
the `neighbour` of the interface that it names; the router that names this one as the neighbour of
the interface with the next hop's address; the one owner of the address.
An address that two routers have is refused, because a next hop that names it could be either: a
trace would follow one of them and be wrong for the other. Give it to one, or say in `interfaces` of
both which neighbour is behind it. Link-local addresses (fe80::/10, 169.254.0.0/16) may be given to
many; without a `neighbour` at either end a trace over them is unknown (`address-shared`).

A router with `sources` is spoken for from there alone, and a source that is listed speaks for its
own routers alone. A router without `sources` may come from everywhere that `allow` admits.
FPM carries no router id: the router is found by its source address, and where no `[[router]]`
covers the source, the address itself is the id.

## Log lines

`RUST_LOG` in the environment sets the level, such as `warn` or `engine=debug`; `info` without it.
";

/// Every setting, in the order of docs/settings.md.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "data",
        group: Group::Process,
        help: "The data folder: the log lies in it. One collector at a time writes to it.",
        allowed: "a path that is not empty",
        set: |settings, text| {
            if text.is_empty() {
                return Err(Refused);
            }
            settings.data = text.into();
            Ok(())
        },
        get: |settings| quoted(&settings.data.display().to_string()),
    },
    Setting {
        name: "listen",
        group: Group::Process,
        help: "Where routers connect to. Loopback by default: opening it to the network is a \
               decision, best made together with `allow`.",
        allowed: "ADDRESS:PORT, such as 0.0.0.0:30310 or [::]:30310; port 0 = any free one",
        set: |settings, text| store(&mut settings.listen, text),
        get: |settings| quoted(&settings.listen.to_string()),
    },
    Setting {
        name: "http",
        group: Group::Process,
        help: "Where the page, `/api/v1/`, `/metrics` and `/healthz` are served, by threads of \
               their own. On an address that other hosts can reach `http_token_file` is needed; \
               what is sent there is not encrypted: between hosts, use a tunnel or a proxy.",
        allowed: "ADDRESS:PORT, or off",
        set: |settings, text| {
            settings.http = match text {
                "off" => None,
                _ => Some(text.parse().map_err(|_| Refused)?),
            };
            Ok(())
        },
        get: |settings| {
            quoted(&settings.http.map_or_else(|| "off".to_owned(), |address| address.to_string()))
        },
    },
    Setting {
        name: "http_token_file",
        group: Group::Reload,
        help: "A file with the token that whoever asks the `http` address must send, as \
               `Authorization: Bearer TOKEN`; the page asks for it. One line of 16 printable \
               letters or more, such as `head -c 24 /dev/urandom | base64` writes. Without it the \
               `http` address must be loopback, and only this host is answered. At SIGHUP the file \
               is read again: whoever has only the old token is asked for the new one. It is a \
               regular file of 4,096 bytes at most, or a link to one; a file that its group or \
               others may write is refused, and one that everybody may read is warned of.",
        allowed: "a path, or off",
        set: |settings, text| {
            settings.http_token_file = match text {
                "" => return Err(Refused),
                "off" => None,
                path => Some(path.into()),
            };
            Ok(())
        },
        get: |settings| {
            let file = settings.http_token_file.as_ref();
            quoted(&file.map_or_else(|| "off".to_owned(), |file| file.display().to_string()))
        },
    },
    Setting {
        name: "shards",
        group: Group::Process,
        help: "Shards: threads that each own a listener, its connections and a log file. Any \
               number opens any data folder.",
        allowed: "0 to 256; 0 = one per CPU",
        set: |settings, text| within(&mut settings.shards, text, 0, SHARDS_MAX),
        get: |settings| settings.shards.to_string(),
    },
    Setting {
        name: "io",
        group: Group::Process,
        help: "How sockets are driven. `auto` takes io_uring where a ring for every shard can be \
               had and epoll otherwise, whatever the reason, and one log line says which and why.",
        allowed: "auto, uring or epoll",
        set: |settings, text| {
            settings.io = named(&IoChoice::ALL, IoChoice::name, text)?;
            Ok(())
        },
        get: |settings| quoted(settings.io.name()),
    },
    Setting {
        name: "log_format",
        group: Group::Process,
        help: "How log lines are written to the standard error.",
        allowed: "text or json",
        set: |settings, text| {
            settings.log_format = named(&LogFormat::ALL, LogFormat::name, text)?;
            Ok(())
        },
        get: |settings| quoted(settings.log_format.name()),
    },
    Setting {
        name: "drop_reasons",
        group: Group::Process,
        help: "Whether packets that the kernel drops are counted by the reason that it gives, by a \
               tracepoint in an instance of its own. `auto`: where tracefs is mounted and may be \
               written; the collector mounts nothing.",
        allowed: "auto or off",
        set: |settings, text| {
            settings.drop_reasons = match text {
                "auto" => true,
                "off" => false,
                _ => return Err(Refused),
            };
            Ok(())
        },
        get: |settings| quoted(if settings.drop_reasons { "auto" } else { "off" }),
    },
    Setting {
        name: "memory_bytes",
        group: Group::Process,
        help: "What the process may take: routers' tables, received bytes that are not digested \
               yet, buffers. When received bytes have used their part, reading stops, the fullest \
               sessions first, and the routers wait at their TCP windows; nothing is dropped. When \
               tables have used three quarters, the largest grows no more: new keys are refused, \
               with the cause `table-full` and a gap; reading goes on. 0 = a quarter of the \
               memory of the host, or of the control group if that is less; 512 MiB at most where \
               that cannot be read.",
        allowed: "0, or 32MiB to 1TiB",
        set: |settings, text| match text {
            "0" => store(&mut settings.memory_bytes, text),
            _ => bytes(&mut settings.memory_bytes, text, MEMORY_BYTES_MIN, 1 << 40),
        },
        get: |settings| settings.memory_bytes.to_string(),
    },
    Setting {
        name: "question_memory_bytes",
        group: Group::Process,
        help: "What of memory_bytes is set aside for questions about the past over HTTP: paths, \
               histories, tables of an instant. Two are worked on at a time, and each may take \
               half; one that needs more is answered with status 507 and what it needed, and \
               hurts nobody. The command line is not bound by it. 0 = an eighth of what \
               memory_bytes leaves beside its fixed parts, or less where the rest needs it.",
        allowed: "0, or 2MiB to 1TiB",
        set: |settings, text| match text {
            "0" => store(&mut settings.question_memory_bytes, text),
            _ => bytes(&mut settings.question_memory_bytes, text, 2 << 20, 1 << 40),
        },
        get: |settings| settings.question_memory_bytes.to_string(),
    },
    Setting {
        name: "connections_max",
        group: Group::Process,
        help: "Connections that the process holds at once, all shards together. Beyond it none \
               are taken until one closes; those that wait stay in the kernel's queue. If it is \
               more than RLIMIT_NOFILE carries, each ring holds up to that limit by direct \
               descriptors; epoll holds fewer, and says so.",
        allowed: "1 to 10000000",
        set: |settings, text| within(&mut settings.connections_max, text, 1, 10_000_000),
        get: |settings| settings.connections_max.to_string(),
    },
    Setting {
        name: "retain_hours",
        group: Group::Process,
        help: "Finished hours of history that can be asked about; 0 keeps all. What is older is \
               deleted, but for up to a day of log that questions about the first kept hour need, \
               and answers unknown (`not-retained`).",
        allowed: "0 to 1000000",
        set: |settings, text| within(&mut settings.retain_hours, text, 0, 1_000_000),
        get: |settings| settings.retain_hours.to_string(),
    },
    Setting {
        name: "retain_bytes",
        group: Group::Process,
        help: "Bytes that the log and the states may take on disk; 0 keeps all. The oldest hours \
               go first, looked at when an hour ends; the open hour always stays.",
        allowed: "0, or up to 1PiB",
        set: |settings, text| bytes(&mut settings.retain_bytes, text, 0, 1 << 50),
        get: |settings| settings.retain_bytes.to_string(),
    },
    Setting {
        name: "commit_interval_ms",
        group: Group::Process,
        help: "Longest wait of a row for its group commit, in milliseconds. Acknowledgements \
               follow the commit: a longer interval means fewer syncs and later acks.",
        allowed: "1 to 1000",
        set: |settings, text| within(&mut settings.commit_interval_ms, text, 1, 1_000),
        get: |settings| settings.commit_interval_ms.to_string(),
    },
    Setting {
        name: "commit_bytes",
        group: Group::Process,
        help: "Bytes of rows after which a commit no longer waits for its interval.",
        allowed: "64KiB to 64MiB",
        set: |settings, text| bytes(&mut settings.commit_bytes, text, 64 << 10, 64 << 20),
        get: |settings| settings.commit_bytes.to_string(),
    },
    Setting {
        name: "snapshot_quiet_ms",
        group: Group::Process,
        help: "Where a snapshot has no explicit end (FPM), it counts as complete after so many \
               milliseconds without a byte, while the collector was reading.",
        allowed: "100 to 600000",
        set: |settings, text| within(&mut settings.snapshot_quiet_ms, text, 100, 600_000),
        get: |settings| settings.snapshot_quiet_ms.to_string(),
    },
    Setting {
        name: "unconfirmed_hold_s",
        group: Group::Process,
        help: "How long an entry that such a snapshot lacked answers `unknown` before it counts as \
               withdrawn, in seconds.",
        allowed: "1 to 604800",
        set: |settings, text| within(&mut settings.unconfirmed_hold_s, text, 1, 604_800),
        get: |settings| settings.unconfirmed_hold_s.to_string(),
    },
    Setting {
        name: "identify_timeout_ms",
        group: Group::Process,
        help: "How long a connection may stay open without saying which router it is, in \
               milliseconds.",
        allowed: "100 to 600000",
        set: |settings, text| within(&mut settings.identify_timeout_ms, text, 100, 600_000),
        get: |settings| settings.identify_timeout_ms.to_string(),
    },
    Setting {
        name: "stuck_guard_ms",
        group: Group::Process,
        help: "How long a session may stay unread for want of memory before it is read a little, \
               ahead of all others, in milliseconds; after half of it, if there is room. The least \
               patient senders give up after 15 s at a closed window: it should be well below.",
        allowed: "100 to 600000",
        set: |settings, text| within(&mut settings.stuck_guard_ms, text, 100, 600_000),
        get: |settings| settings.stuck_guard_ms.to_string(),
    },
    Setting {
        name: "identity_idle_s",
        group: Group::Process,
        help: "Silence after which a session yields its router id to another source, in seconds. \
               Before that the newcomer is refused and both are named in the log.",
        allowed: "1 to 86400",
        set: |settings, text| within(&mut settings.identity_idle_s, text, 1, 86_400),
        get: |settings| settings.identity_idle_s.to_string(),
    },
    Setting {
        name: "sessions_per_minute_max",
        group: Group::Process,
        help: "New sessions of one source address per minute; more are refused with the cause \
               `session-rate`.",
        allowed: "1 to 1000000",
        set: |settings, text| within(&mut settings.sessions_per_minute_max, text, 1, 1_000_000),
        get: |settings| settings.sessions_per_minute_max.to_string(),
    },
    Setting {
        name: "rejected_budget",
        group: Group::Process,
        help: "Rejected frames and mappings of one session before it is closed with the cause \
               `rejected-budget`.",
        allowed: "1 to 1000000000",
        set: |settings, text| within(&mut settings.rejected_budget, text, 1, 1_000_000_000),
        get: |settings| settings.rejected_budget.to_string(),
    },
    Setting {
        name: "keepalive_idle_s",
        group: Group::Process,
        help: "Idle time before the first TCP keepalive probe of a session, in seconds. Each \
               session gets a time between this and twice as much: after a storm thousands fall \
               silent together, and would be probed together.",
        allowed: "1 to 7200",
        set: |settings, text| within(&mut settings.keepalive_idle_s, text, 1, 7_200),
        get: |settings| settings.keepalive_idle_s.to_string(),
    },
    Setting {
        name: "keepalive_interval_s",
        group: Group::Process,
        help: "Time between two keepalive probes, in seconds. Of thousands that are probed at once \
               the kernel may drop many: the more often they are probed again until they are \
               given up, the fewer routers that are there are lost.",
        allowed: "1 to 600",
        set: |settings, text| within(&mut settings.keepalive_interval_s, text, 1, 600),
        get: |settings| settings.keepalive_interval_s.to_string(),
    },
    Setting {
        name: "keepalive_probes",
        group: Group::Process,
        help: "Unanswered keepalive probes after which the router is dead and its gap begins.",
        allowed: "1 to 100",
        set: |settings, text| within(&mut settings.keepalive_probes, text, 1, 100),
        get: |settings| settings.keepalive_probes.to_string(),
    },
    Setting {
        name: "user_timeout_s",
        group: Group::Process,
        help: "Time that sent bytes (acks) may stay unacknowledged by the router's TCP before it \
               is dead, in seconds. Less than 2 x keepalive_idle_s + keepalive_probes x \
               keepalive_interval_s, and one unanswered probe may be enough (tcp(7)).",
        allowed: "1 to 3600",
        set: |settings, text| within(&mut settings.user_timeout_s, text, 1, 3_600),
        get: |settings| settings.user_timeout_s.to_string(),
    },
    Setting {
        name: "stop_timeout_s",
        group: Group::Process,
        help: "How long SIGTERM waits for what was read to be digested and committed, in seconds.",
        allowed: "1 to 600",
        set: |settings, text| within(&mut settings.stop_timeout_s, text, 1, 600),
        get: |settings| settings.stop_timeout_s.to_string(),
    },
    Setting {
        name: "frame_bytes_max",
        group: Group::Process,
        help: "Bytes of one frame's payload, or of one plain document.",
        allowed: "4KiB to 1GiB",
        set: |settings, text| bytes(&mut settings.wire.frame_bytes_max, text, 4 << 10, 1 << 30),
        get: |settings| settings.wire.frame_bytes_max.to_string(),
    },
    Setting {
        name: "inflated_bytes_max",
        group: Group::Process,
        help: "Bytes of one frame or document, inflated. It is digested as a whole while the other \
               sessions of its shard wait: 16 MiB are some 60,000 mappings, of which a snapshot may \
               be cut into parts of any size; 10,000 take about 3 MB.",
        allowed: "4KiB to 4GiB",
        set: |settings, text| bytes(&mut settings.wire.inflated_bytes_max, text, 4 << 10, 4 << 30),
        get: |settings| settings.wire.inflated_bytes_max.to_string(),
    },
    Setting {
        name: "inflate_ratio_max",
        group: Group::Process,
        help: "Inflated bytes per compressed byte, of frames above 4 KiB inflated. XML of label \
               mappings stays below 60; more is a bomb.",
        allowed: "10 to 1000",
        set: |settings, text| within(&mut settings.wire.inflate_ratio_max, text, 10, 1_000),
        get: |settings| settings.wire.inflate_ratio_max.to_string(),
    },
    Setting {
        name: "xml_depth_max",
        group: Group::Process,
        help: "Depth of nested elements.",
        allowed: "6 to 256",
        set: |settings, text| within(&mut settings.wire.xml_depth_max, text, 6, 256),
        get: |settings| settings.wire.xml_depth_max.to_string(),
    },
    Setting {
        name: "xml_attributes_max",
        group: Group::Process,
        help: "Attributes of one element.",
        allowed: "8 to 1024",
        set: |settings, text| within(&mut settings.wire.xml_attributes_max, text, 8, 1_024),
        get: |settings| settings.wire.xml_attributes_max.to_string(),
    },
    Setting {
        name: "allow",
        group: Group::Reload,
        help: "Prefixes that may connect, besides the `sources` of routers. Empty: whoever reaches \
               the listener.",
        allowed: "prefixes such as 10.0.0.0/8 or 2001:db8::/32; in a variable with commas between",
        set: |settings, text| {
            settings.allow = list(text, storage::mapping::parse_prefix)?;
            settings.allow.iter_mut().for_each(|prefix| *prefix = prefix.trunc());
            Ok(())
        },
        get: |settings| toml_list::<IpNet>(&settings.allow),
    },
];

fn store<T: std::str::FromStr>(slot: &mut T, text: &str) -> Result<(), Refused> {
    *slot = text.parse().map_err(|_| Refused)?;
    Ok(())
}

fn within<T>(slot: &mut T, text: &str, least: u64, most: T) -> Result<(), Refused>
where
    T: TryFrom<u64> + Copy + PartialOrd,
{
    // Underscores as in TOML and Rust, so that a line may be copied between file and variable.
    let number: u64 = text.replace('_', "").parse().map_err(|_| Refused)?;
    let value = T::try_from(number).map_err(|_| Refused)?;
    if number < least || most < value {
        return Err(Refused);
    }
    *slot = value;
    Ok(())
}

fn bytes<T>(slot: &mut T, text: &str, least: u64, most: T) -> Result<(), Refused>
where
    T: TryFrom<u64> + Copy + PartialOrd,
{
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).ok_or(Refused)?;
    let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or(Refused)?.1;
    let number: u64 = digits.trim_end().replace('_', "").parse().map_err(|_| Refused)?;
    within(slot, &number.checked_mul(factor).ok_or(Refused)?.to_string(), least, most)
}

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, Refused> {
    all.iter().copied().find(|value| name(*value) == text).ok_or(Refused)
}

fn list<T>(text: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>, Refused> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| parse(item).ok_or(Refused)).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The setting whose name differs least, if by less than half of its letters.
pub(super) fn nearest(
    name: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let distances = names.into_iter().map(|other| (edits(name, other), other));
    let (distance, nearest) = distances.min()?;
    (distance * 2 < nearest.len()).then_some(nearest)
}

/// Letters to insert, delete or replace (Levenshtein), both texts being short.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.bytes().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        for (slot, other) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = *slot;
            before = replaced.min(diagonal + 1).min(before + 1);
            *slot = before;
        }
        row[0] = index + 1;
    }
    row.last().copied().unwrap_or(0)
}
