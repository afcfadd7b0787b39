private let microsPerSecond: Int64 = 1_000_000
private let secondsPerDay: Int64 = 86_400

extension JSONWriter {
    /// Appends a time as `2026-11-21T02:03:04.123456Z`, in the proleptic Gregorian calendar.
    ///
    /// Years have at least four digits: 12026 has five, and the year before 0000 is -0001. The
    /// quotes are the caller's.
    package mutating func appendTimestamp(microsSince1970: Int64) {
        let (seconds, micros) = floorDivide(microsSince1970, by: microsPerSecond)
        let (days, secondOfDay) = floorDivide(seconds, by: secondsPerDay)
        let date = CivilDate(daysSince1970: days)
        reserve(40)
        if date.year < 0 { append(ASCII.minus) }
        appendDecimal(date.year.magnitude, digitsMin: 4)
        appendPair(date.month, after: ASCII.minus)
        appendPair(date.day, after: ASCII.minus)
        appendPair(secondOfDay / 3600, after: UInt8(ascii: "T"))
        appendPair(secondOfDay / 60 % 60, after: ASCII.colon)
        appendPair(secondOfDay % 60, after: ASCII.colon)
        append(ASCII.dot)
        appendDecimal(UInt64(micros), digitsMin: 6)
        append(UInt8(ascii: "Z"))
    }

    /// Appends a separator and a value of 0...99 in two digits.
    private mutating func appendPair(_ value: Int64, after separator: UInt8) {
        let value = UInt8(truncatingIfNeeded: value)
        append(separator)
        append(ASCII.zero + value / 10)
        append(ASCII.zero + value % 10)
    }
}

/// A day of the proleptic Gregorian calendar, which has a year 0.
private struct CivilDate {
    let year: Int64
    /// 1...12
    let month: Int64
    /// 1...31
    let day: Int64

    /// Any number of days that microseconds in an Int64 can amount to.
    ///
    /// Counts in years that begin on 1 March, so that the leap day is the last day of a year, and
    /// in eras of 400 years, which all have 146,097 days. The method is Howard Hinnant's
    /// `civil_from_days`: https://howardhinnant.github.io/date_algorithms.html
    init(daysSince1970: Int64) {
        let daysFrom0000March1To1970: Int64 = 719_468
        let (era, dayOfEra) = floorDivide(daysSince1970 + daysFrom0000March1To1970, by: 146_097)
        // A leap day at the end of every 4th year, but not of every 100th, but of every 400th.
        let leapDays = dayOfEra / 1460 - dayOfEra / 36_524 + dayOfEra / 146_096
        let yearOfEra = (dayOfEra - leapDays) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        // From March on the lengths 31 30 31 30 31 repeat: 153 days in five months.
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)
    }
}

/// Rounds down, so that the remainder is never negative.
private func floorDivide(
    _ value: Int64,
    by divisor: Int64
) -> (quotient: Int64, remainder: Int64) {
    let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
}
