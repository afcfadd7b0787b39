import Testing
import WeirJSON
import WeirTesting

@Suite struct JSONWriterTimestampTests {
    private func timestamp(_ micros: Int64) -> String {
        writtenText { $0.appendTimestamp(microsSince1970: micros) }
    }

    // Seconds are from `date -u -d @SECONDS`, but for the years it does not know.
    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (999_999, "1970-01-01T00:00:00.999999Z"),
        (-1_000_000, "1969-12-31T23:59:59.000000Z"),
        (86_399_999_999, "1970-01-01T23:59:59.999999Z"),
        (1_795_226_584_123_456, "2026-11-21T02:03:04.123456Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
        (951_868_800_000_000, "2000-03-01T00:00:00.000000Z"),
        (1_709_164_800_000_000, "2024-02-29T00:00:00.000000Z"),
        (1_735_603_200_000_000, "2024-12-31T00:00:00.000000Z"),
        (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        (4_107_456_000_000_000, "2100-02-28T00:00:00.000000Z"),
        (-11_676_096_000_000_000, "1600-01-01T00:00:00.000000Z"),
        (-11_670_998_400_000_000, "1600-02-29T00:00:00.000000Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        (253_402_300_800_000_000, "10000-01-01T00:00:00.000000Z"),
        (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
        (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
        (-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"),
        (Int64.max, "294247-01-10T04:00:54.775807Z"),
        (Int64.min, "-290308-12-21T19:59:05.224192Z"),
    ])
    func timesAreWrittenInTheGregorianCalendar(_ micros: Int64, _ expected: String) {
        #expect(timestamp(micros) == expected)
    }

    @Test func everyDayOfNineCenturiesFollowsTheOneBefore() {
        // A calendar that only counts days is the oracle.
        let lengths: [Int64] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        var micros: Int64 = -11_676_096_000_000_000
        for year in Int64(1600)..<2500 {
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            for (index, length) in lengths.enumerated() {
                for day in 1...length + (isLeap && index == 1 ? 1 : 0) {
                    let month = index + 1
                    let date =
                        "\(year)-\(month < 10 ? "0" : "")\(month)-\(day < 10 ? "0" : "")\(day)"
                    if timestamp(micros) != "\(date)T00:00:00.000000Z" { Issue.record("\(date)") }
                    micros += 86_400_000_000
                }
            }
        }
    }

    @Test func randomTimesNeverTrapAndHaveTheirShape() {
        var generator = SeededGenerator(seed: 8)
        for _ in 0..<5000 {
            let micros = Int64.random(in: .min ... .max, using: &generator)
            let text = timestamp(micros)
            #expect(text.hasSuffix("Z") && text.dropLast(7).last == ".")
            #expect(text.utf8.count >= 27 && text.utf8.count <= 30)
        }
    }
}
