//! `strftime_now` of chat templates, in UTC and in English, for the directives that dates in
//! prompts use.

use minijinja::{Error, ErrorKind};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `seconds` since 1970 by `format`, as C's `strftime` in UTC.
///
/// # Errors
/// For a directive that is not supported.
pub fn utc(format: &str, seconds: u64) -> Result<String, Error> {
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month - 1], DAYS[((days + 4) % 7) as usize]);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut directive = characters.next();
        // `%-d`: without a leading zero.
        let bare = directive == Some('-');
        if bare {
            directive = characters.next();
        }
        let number = |n: u64| if bare { n.to_string() } else { format!("{n:02}") };
        text += &match directive {
            Some('Y') => year.to_string(),
            Some('y') => number((year % 100) as u64),
            Some('m') => number(month as u64),
            Some('d') => number(day as u64),
            Some('H') => number(hour),
            Some('I') => number((hour + 11) % 12 + 1),
            Some('M') => number(minute),
            Some('S') => number(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let directive = other.map_or_else(String::new, String::from);
                let message = format!("strftime_now: `%{directive}` is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        };
    }
    Ok(text)
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date -u -d @N`.
        let all = "%Y-%m-%d %H:%M:%S %a %A %b %B %I%p %-d %y %%";
        assert_eq!(utc(all, 0).unwrap(), "1970-01-01 00:00:00 Thu Thursday Jan January 12AM 1 70 %");
        assert_eq!(utc("%d %b %Y", 951_782_400).unwrap(), "29 Feb 2000");
        assert_eq!(utc("%d %b %Y", 1_721_951_999).unwrap(), "25 Jul 2024");
        assert_eq!(utc("%d %b %Y %H:%M", 4_107_542_399).unwrap(), "28 Feb 2100 23:59");
        assert!(utc("%Q", 0).is_err());
        assert!(utc("%", 0).is_err());
    }
}
