import Testing
import WeirTesting

@testable import WeirConfig

@Suite struct NotationTests {
    @Test(arguments: [
        ("0s", Duration.zero), ("200ms", .milliseconds(200)), ("30s", .seconds(30)),
        ("5m", .seconds(300)), ("1h", .seconds(3600)), ("90m", .seconds(5400)),
        ("007s", .seconds(7)),
    ])
    func durationsAreANumberAndAUnit(_ text: String, _ duration: Duration) {
        #expect(DurationNotation.parse(text) == duration)
    }

    @Test(arguments: [
        "", "s", "30", "-1s", "+1s", "1.5s", "1 s", " 1s", "1s ", "1S", "1d", "1m30s", "1us", "١s",
        "1e3s", "0x1s",
    ])
    func otherTextIsNoDuration(_ text: String) {
        #expect(DurationNotation.parse(text) == nil)
    }

    @Test(arguments: [
        ("0", 0), ("1", 1), ("65536", 65_536), ("64KiB", 65_536), ("8MiB", 8_388_608),
        ("1GiB", 1_073_741_824), ("0MiB", 0),
    ])
    func sizesAreANumberAndAUnit(_ text: String, _ bytes: Int) {
        #expect(SizeNotation.parse(text) == bytes)
    }

    @Test(arguments: ["", "KiB", "8MB", "8 MiB", "8mib", "8M", "-1", "1.5GiB", "1TiB", "1KiBs"])
    func otherTextIsNoSize(_ text: String) {
        #expect(SizeNotation.parse(text) == nil)
    }

    @Test func numbersTooLargeAreBeyondEveryRange() {
        for unit in ["ms", "s", "h"] {
            let duration = DurationNotation.parse("99999999999999999999" + unit)
            #expect(duration ?? .zero > .seconds(1_000_000_000))
        }
        #expect(DurationNotation.parse("9223372036854775807h") ?? .zero > .seconds(1_000_000_000))
        #expect(SizeNotation.parse("9223372036854775807GiB") == .max)
        #expect(SizeNotation.parse("99999999999999999999") == .max)
    }

    @Test func whatIsPrintedIsReadBackTheSame() {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<1000 {
            let bits = Int.random(in: 0..<40, using: &generator)
            let number = Int.random(in: 0...(1 << bits), using: &generator)
            #expect(SizeNotation.parse(SizeNotation.text(number)) == number)
            let duration = Duration.milliseconds(number)
            #expect(DurationNotation.parse(DurationNotation.text(duration)) == duration)
        }
        #expect(SizeNotation.text(8 << 20) == "8MiB")
        #expect(DurationNotation.text(.seconds(90)) == "90s")
        #expect(DurationNotation.text(.milliseconds(1500)) == "1500ms")
        #expect(DurationNotation.text(.seconds(7200)) == "2h")
    }

    @Test func habitsOfOtherToolsAreUnderstoodAsSuggestions() {
        #expect(DurationNotation.suggestion(for: "30") == "30s")
        #expect(DurationNotation.suggestion(for: "5 minutes") == "5m")
        #expect(DurationNotation.suggestion(for: "2d") == "48h")
        #expect(DurationNotation.suggestion(for: "soon") == nil)
        #expect(SizeNotation.suggestion(for: "8 MB") == "8MiB")
        #expect(SizeNotation.suggestion(for: "64k") == "64KiB")
        #expect(SizeNotation.suggestion(for: "lots") == nil)
    }
}
