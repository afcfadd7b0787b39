/// Cluster times as people read and write them. Pure.
///
/// A cluster time has seconds since 1970 in its upper half and an increment in its lower.
enum ClusterTime {
    /// `2026-11-21T02:03:04Z`, and `+5` for the fifth entry of that second.
    static func text(_ time: UInt64) -> String {
        let seconds = time.clusterSeconds
        let (day, rest) = seconds.quotientAndRemainder(dividingBy: 86400)
        let date = civil(day)
        let clock = [rest / 3600, rest / 60 % 60, rest % 60].map { two($0) }
        let increment = time & 0xFFFF_FFFF
        return "\(date.year)-\(two(date.month))-\(two(date.day))T"
            + clock.joined(separator: ":") + "Z" + (increment == 0 ? "" : "+\(increment)")
    }

    /// Nil when the text is no such time, with or without the increment, nor the seconds and the
    /// increment with a dot between, as `weir status` shows positions.
    static func parse(_ text: String) -> UInt64? {
        if let match = text.wholeMatch(of: #/(\d{9,10})\.(\d{1,9})/#),
            let seconds = UInt32(match.1),
            let increment = UInt32(match.2)
        {
            return UInt64(seconds) << 32 | UInt64(increment)
        }
        guard
            let match = text.wholeMatch(
                of: #/(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z(?:\+(\d{1,9}))?/#)
        else { return nil }
        let parts = [match.1, match.2, match.3, match.4, match.5, match.6].compactMap { Int64($0) }
        guard parts.count == 6, (1970...2105).contains(parts[0]), (1...12).contains(parts[1]),
            (1...31).contains(parts[2]), parts[3] < 24, parts[4] < 60, parts[5] < 60
        else { return nil }
        let days = days(year: parts[0], month: parts[1], day: parts[2])
        // A day the month does not have would become one of the next.
        guard civil(days) == (parts[0], parts[1], parts[2]) else { return nil }
        let seconds = days * 86400 + parts[3] * 3600 + parts[4] * 60 + parts[5]
        return UInt64(seconds) << 32 | (match.7.flatMap { UInt64($0) } ?? 0)
    }

    private static func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }

    // The proleptic Gregorian calendar in whole days, from 1 March so that leap days come last.

    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let shifted = month > 2 ? year : year - 1
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    private static func civil(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra =
            (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth + (shiftedMonth < 10 ? 3 : -9)
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }
}
