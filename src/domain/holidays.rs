//! Public holidays by country, from a table that `scripts/make-holidays` writes, and a schedule's
//! choice to be closed on them.
//!
//! The table is part of the binary: no network, no service that could be away. It knows the years
//! [`years`]; later dates have no holidays yet. Moon-dependent days that no government has fixed
//! so far are marked `(estimated)` and may move by a day with a newer table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::schedule::{ProblemKind, ScheduleProblem, parse_date};

/// The most holidays that a schedule may opt out of.
pub const MAX_EXCEPT: usize = 400;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("holidays.tsv")));

struct Table {
    first_year: i16,
    last_year: i16,
    countries: BTreeMap<&'static str, Country>,
}

/// A country of the table.
#[derive(Debug)]
pub struct Country {
    code: &'static str,
    regions: Vec<&'static str>,
    holidays: Vec<Holiday>,
}

#[derive(Debug)]
struct Holiday {
    name: &'static str,
    place: Place,
    dates: Vec<Date>,
}

#[derive(Debug)]
enum Place {
    Everywhere,
    Only(Vec<&'static str>),
    AllBut(Vec<&'static str>),
}

impl Place {
    fn read(text: &'static str) -> Self {
        let regions = |list: &'static str| list.split(' ').collect();
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(list), _) => Self::Only(regions(list)),
            (_, Some(list)) => Self::AllBut(regions(list)),
            (None, None) => Self::Everywhere,
        }
    }

    fn has(&self, region: Option<&str>) -> bool {
        match (self, region) {
            (Self::Everywhere, _) | (Self::AllBut(_), None) => true,
            (Self::Only(_), None) => false,
            (Self::Only(list), Some(region)) => list.contains(&region),
            (Self::AllBut(list), Some(region)) => !list.contains(&region),
        }
    }
}

impl Table {
    /// Reads the form that the head of the file describes. A line that is not in it is left out;
    /// a test sees to it that there is none.
    fn read(text: &'static str) -> Self {
        let mut table = Self { first_year: 0, last_year: 0, countries: BTreeMap::new() };
        let mut country: Option<Country> = None;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let fields: Vec<&'static str> = line.split('\t').collect();
            match (fields.as_slice(), &mut country) {
                ([first, last], None) if table.last_year == 0 => {
                    table.first_year = first.parse().unwrap_or(0);
                    table.last_year = last.parse().unwrap_or(0);
                }
                ([code, regions], _) => {
                    table.keep(country.take());
                    let regions = regions.split(' ').filter(|region| !region.is_empty());
                    let (regions, holidays) = (regions.collect(), Vec::new());
                    country = Some(Country { code, regions, holidays });
                }
                ([name, place, dates], Some(country)) => {
                    let dates = dates.split(' ').flat_map(|date| table.dates(date)).collect();
                    let place = Place::read(place);
                    country.holidays.push(Holiday { name, place, dates });
                }
                _ => {}
            }
        }
        table.keep(country.take());
        table
    }

    fn keep(&mut self, country: Option<Country>) {
        self.countries.extend(country.map(|country| (country.code, country)));
    }

    /// `MMDD` in every year, or `YYMMDD`.
    fn dates(&self, text: &str) -> Vec<Date> {
        let number = |part: Option<&str>| part.and_then(|digits| digits.parse::<i16>().ok());
        let (years, day) = match text.len() {
            4 => (self.first_year..=self.last_year, Some(text)),
            _ => {
                let year = number(text.get(..2)).map_or(0, |year| 2000 + year);
                (year..=year, text.get(2..))
            }
        };
        let month = number(day.and_then(|day| day.get(..2)));
        let day = number(day.and_then(|day| day.get(2..)));
        let date = |year| {
            let (month, day) = (i8::try_from(month?).ok()?, i8::try_from(day?).ok()?);
            Date::new(year, month, day).ok()
        };
        years.filter_map(date).collect()
    }
}

/// The first and the last year that the table knows.
pub fn years() -> (i16, i16) {
    (TABLE.first_year, TABLE.last_year)
}

/// The codes of all countries (ISO 3166-1, two letters), in order.
pub fn countries() -> impl Iterator<Item = &'static str> {
    TABLE.countries.keys().copied()
}

/// The country with exactly this code.
pub fn country(code: &str) -> Option<&'static Country> {
    TABLE.countries.get(code)
}

impl Country {
    /// Its own code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The codes of its regions: the second part of ISO 3166-2, such as `TN` for `IN-TN`.
    pub fn regions(&self) -> &[&'static str] {
        &self.regions
    }

    /// The region with exactly this code.
    fn region(&self, code: &str) -> Option<&'static str> {
        self.regions.iter().find(|region| **region == code).copied()
    }

    /// Every holiday with its names, by date: those of the whole country, or those of one region,
    /// which can lack some of the country's.
    pub fn days(&self, region: Option<&str>) -> BTreeMap<Date, Vec<&'static str>> {
        let mut days: BTreeMap<Date, Vec<&'static str>> = BTreeMap::new();
        for holiday in self.holidays.iter().filter(|holiday| holiday.place.has(region)) {
            for date in &holiday.dates {
                days.entry(*date).or_default().push(holiday.name);
            }
        }
        days
    }
}

/// A schedule's choice to be closed on the public holidays of a country. A date that has an
/// override of its own keeps the override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HolidayChoice {
    /// ISO 3166-1, such as `IN`.
    pub country: String,
    /// The second part of ISO 3166-2, such as `TN`: the holidays there instead of those that the
    /// whole country has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `YYYY-MM-DD`: holidays on which the practice works all the same.
    #[serde(default)]
    pub except: Vec<String>,
}

impl HolidayChoice {
    /// Notes everything wrong: an unknown country or region, and each opt-out that is no date, is
    /// there twice or is no holiday. One outside the table's years is kept, since the table moves on.
    pub(super) fn validate(&self, problems: &mut Vec<ScheduleProblem>) {
        let closed = self.closed_days();
        problems.extend(closed.as_ref().err().cloned());
        if self.except.len() > MAX_EXCEPT {
            let kind = ProblemKind::TooMany { limit: MAX_EXCEPT };
            problems.push(ScheduleProblem::new("holidays.except", kind));
        }
        let days = closed.ok().map(|closed| closed.country.days(closed.region));
        let (first, last) = years();
        let mut seen = BTreeSet::new();
        for (index, text) in self.except.iter().take(MAX_EXCEPT).enumerate() {
            let kind = match (parse_date(text), &days) {
                (None, _) => Some(ProblemKind::NotADate),
                (Some(date), _) if !seen.insert(date) => Some(ProblemKind::DuplicateDate),
                (Some(date), Some(days)) if (first..=last).contains(&date.year()) => {
                    (!days.contains_key(&date)).then_some(ProblemKind::NotAHoliday)
                }
                (Some(_), _) => None,
            };
            let field = format!("holidays.except[{index}]");
            problems.extend(kind.map(|kind| ScheduleProblem::new(field, kind)));
        }
    }

    /// The days that it closes. Refuses a country or region that the table does not have.
    pub(super) fn closed_days(&self) -> Result<ClosedDays, ScheduleProblem> {
        let country = country(&self.country)
            .ok_or_else(|| ScheduleProblem::new("holidays.country", ProblemKind::UnknownCountry))?;
        let region = match &self.region {
            None => None,
            Some(code) => Some(country.region(code).ok_or_else(|| {
                let kind = ProblemKind::UnknownRegion { country: country.code };
                ScheduleProblem::new("holidays.region", kind)
            })?),
        };
        let except: BTreeSet<Date> = self.except.iter().filter_map(|d| parse_date(d)).collect();
        let dates = country.days(region).into_keys().filter(|date| !except.contains(date));
        Ok(ClosedDays { country, region, dates: dates.collect() })
    }
}

/// The dates on which a schedule is closed for a holiday.
#[derive(Debug, Clone)]
pub(super) struct ClosedDays {
    country: &'static Country,
    region: Option<&'static str>,
    /// Sorted. Their names stay in the table: there is one of this per calendar in memory.
    dates: Vec<Date>,
}

impl ClosedDays {
    pub(super) fn contains(&self, date: Date) -> bool {
        self.dates.binary_search(&date).is_ok()
    }

    /// The first name of the holiday on a date that is closed.
    pub(super) fn name(&self, date: Date) -> Option<&'static str> {
        let here = self.country.holidays.iter().filter(|holiday| holiday.place.has(self.region));
        let mut that_day = here.filter(|holiday| holiday.dates.contains(&date));
        that_day.next().filter(|_| self.contains(date)).map(|holiday| holiday.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn names(code: &str, region: Option<&str>, on: Date) -> Vec<&'static str> {
        country(code).unwrap().days(region).remove(&on).unwrap_or_default()
    }

    #[test]
    fn every_line_of_the_table_is_read() {
        let text = include_str!("holidays.tsv");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (mut countries, mut holidays) = (0, 0);
        for line in lines.skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields.as_slice() {
                [_, _] => countries += 1,
                [_, _, dates] => {
                    holidays += 1;
                    let all = dates.split(' ').all(|text| !TABLE.dates(text).is_empty());
                    assert!(all, "{line}");
                }
                _ => panic!("{line}"),
            }
        }
        let read: usize = TABLE.countries.values().map(|country| country.holidays.len()).sum();
        assert_eq!((TABLE.countries.len(), read), (countries, holidays));
        assert_eq!(years(), (2024, 2035));
    }

    /// A schedule that names a country must stay readable: none may go.
    #[test]
    fn the_countries_that_schedules_may_name() {
        let expected = "AE AU BH CA DE GB IE IN KW MU MY NL NZ OM QA SA SG US ZA";
        assert_eq!(countries().collect::<Vec<_>>().join(" "), expected);
        for code in countries() {
            let country = country(code).unwrap();
            let (first, last) = years();
            for place in [None].into_iter().chain(country.regions().iter().copied().map(Some)) {
                let days = country.days(place);
                for year in first..=last {
                    let count = days.keys().filter(|date| date.year() == year).count();
                    assert!((4..=40).contains(&count), "{code} {place:?} {year}: {count}");
                }
            }
        }
    }

    /// Known from the governments' own lists, not from the table's source.
    #[test]
    fn holidays_that_everybody_knows() {
        let (first, last) = years();
        for year in first..=last {
            for (month, day, name) in [
                (1, 26, "Republic Day"),
                (8, 15, "Independence Day"),
                (10, 2, "Mahatma Gandhi's Jayanti"),
            ] {
                let names = names("IN", None, date(year, month, day));
                assert!(names.contains(&name), "{year}: {names:?}");
            }
        }
        for (code, region, on, name) in [
            ("IN", None, date(2026, 11, 8), "Diwali (Deepavali)"),
            ("IN", None, date(2025, 10, 20), "Diwali (Deepavali)"),
            ("IN", Some("TN"), date(2025, 1, 14), "Pongal"),
            ("GB", Some("ENG"), date(2026, 8, 31), "Late Summer Bank Holiday"),
            ("US", None, date(2026, 11, 26), "Thanksgiving Day"),
            ("DE", None, date(2026, 10, 3), "German Unity Day"),
            ("SG", None, date(2026, 8, 9), "National Day"),
        ] {
            let names = names(code, region, on);
            assert!(names.contains(&name), "{code} {region:?} {on}: {names:?}");
        }
        assert_eq!(names("GB", None, date(2026, 8, 31)), [""; 0]);
        assert_eq!(names("GB", Some("SCT"), date(2026, 8, 31)), [""; 0]);
    }

    fn problems(choice: serde_json::Value) -> Vec<String> {
        let choice: HolidayChoice = serde_json::from_value(choice).unwrap();
        let mut problems = Vec::new();
        choice.validate(&mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_choices_are_refused_by_field() {
        use serde_json::json;
        let country = problems(json!({"country": "in"}));
        assert!(country[0].starts_with("holidays.country: must be one of AE, AU,"), "{country:?}");
        let region = problems(json!({"country": "GB", "region": "TN"}));
        assert_eq!(region, ["holidays.region: must be one of ENG, NIR, SCT, WLS"]);
        let region = problems(json!({"country": "SG", "region": "TN"}));
        assert_eq!(region, ["holidays.region: this country has no regions here"]);
        let except = ["2026-10-02", "2026-10-03", "today", "2026-10-02", "1999-01-01"];
        assert_eq!(
            problems(json!({"country": "IN", "except": except})),
            [
                "holidays.except[1]: is no public holiday there; GET /v1/holidays lists them",
                "holidays.except[2]: must be a date YYYY-MM-DD",
                "holidays.except[3]: this date is already listed",
            ]
        );
        let many = vec!["1999-01-01"; MAX_EXCEPT + 1];
        let many = problems(json!({"country": "IN", "except": many}));
        assert_eq!(many[0], "holidays.except: at most 400 entries");
    }

    #[test]
    fn what_is_opted_out_of_is_not_closed() {
        let choice = HolidayChoice {
            country: "IN".to_owned(),
            region: None,
            except: vec!["2026-10-02".to_owned()],
        };
        let closed = choice.closed_days().unwrap();
        assert!(closed.contains(date(2026, 8, 15)) && !closed.contains(date(2026, 10, 2)));
        assert_eq!(closed.name(date(2026, 8, 15)), Some("Independence Day"));
        assert_eq!(closed.name(date(2026, 10, 2)), None);
        assert_eq!(closed.name(date(2026, 8, 16)), None);
    }
}
