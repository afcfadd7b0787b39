import Testing

@testable import WeirMongoDBSource

/// Cluster times as `weir status` shows them and `weir position set` takes them.
struct ClusterTimeTests {
    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0, 0), ("1970-01-01T00:00:00Z+1", 0, 1),
        ("1999-12-31T23:59:59Z", 946_684_799, 0), ("2000-02-29T12:00:00Z", 951_825_600, 0),
        ("2026-11-21T02:03:04Z+5", 1_795_226_584, 5), ("2038-01-19T03:14:08Z", 1 << 31, 0),
        ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
        ("2105-12-31T23:59:59Z+999999999", 4_291_747_199, 999_999_999),
    ])
    func aTimeIsReadAsItIsWritten(text: String, seconds: UInt64, increment: UInt64) {
        let time = seconds << 32 | increment
        #expect(ClusterTime.text(time) == text)
        #expect(ClusterTime.parse(text) == time)
    }

    @Test func daysOfEveryMonthAreReadAsTheyAreWritten() {
        for day in stride(from: UInt64(0), to: 49_000, by: 29) {
            let time = (day * 86400 + day % 86400) << 32
            #expect(ClusterTime.parse(ClusterTime.text(time)) == time)
        }
    }

    @Test func whatStatusShowsIsTakenToo() {
        #expect(ClusterTime.parse("1795226584.5") == 1_795_226_584 << 32 | 5)
        #expect(ClusterTime.parse("1795226584.0") == 1_795_226_584 << 32)
    }

    @Test(arguments: [
        "", "now", "2026-11-21", "2026-11-21T02:03:04", "2026-11-21T02:03:04+01:00",
        "2026-11-21 02:03:04Z", "2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
        "1969-12-31T23:59:59Z", "2106-02-07T06:28:15Z", "2026-01-01T00:00:00Z+",
        "2026-01-01T00:00:00Z+-1", "2026-01-01T00:00:00Z+1234567890", "4294967296.1",
        "1795226584", "1795226584.", "1795226584.1234567890", "-1795226584.1",
        "٢٠٢٦-11-21T02:03:04Z", " 2026-11-21T02:03:04Z",
    ])
    func anythingElseIsRefused(text: String) {
        #expect(ClusterTime.parse(text) == nil)
    }
}
