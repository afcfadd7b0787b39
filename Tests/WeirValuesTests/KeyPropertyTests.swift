import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

/// What must hold for every row, whatever is in it.
struct KeyPropertyTests {
    private static let templates = [
        "{a}:{b}:{c}", "k:{a}", "x{a}-:-{b}y", "{{{a}}}:{b}", "{{{a}}}{b}", "{a}{{x}}{b}",
        "p-{a}-:{b}", "%{a}:%{b}%", "{{u-{a}}}-{b}", "-{a}:-{b}-:{c}-", "{a}%:{b}", "é{a}:😀{b}",
        "{{t:{a}}}{b}:{c}", "%3A{a}:3A{b}",
    ]
    private static let ambiguous = [
        "{a}-{b}", "{a}{b}", "{a}%3A{b}", "{{{a}{b}}}", "{a}:{b}x{c}",
    ]
    private static let pieces = [
        "", "a", "b", "-", ":", "%", "3A", "%3A", "25", "{", "}", "{}", "x", "u-", "y", "\r\n",
        "\0",
        "é", "😀", "*2\r\n$3\r\nDEL\r\n", "{x}:v", ":v", "\u{7F}", "?", "[", "\\", "^", "0", "7B",
    ]

    private static func row(_ generator: inout SeededGenerator) -> [String] {
        (0..<3).map { _ in
            (0..<Int.random(in: 0...3, using: &generator))
                .map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
        }
    }

    private static func rendered(
        _ template: KeyTemplate, count: Int, seed: UInt64
    ) throws -> [(row: [String], key: [UInt8])] {
        var generator = SeededGenerator(seed: seed)
        let rows = (0..<count).map { _ in row(&generator) }
        let made = try keys(template, letters, rows.map { $0.map(Cell.text) })
        return try zip(rows, made).map { ($0, try #require($1)) }
    }

    /// The first pair of rows that differ in a column the template names and have one key.
    private static func collision(_ text: String, seed: UInt64) throws -> ([String], [String])? {
        let named = ["a", "b", "c"].map { text.contains("{\($0)}") }
        var owners: [[UInt8]: [String]] = [:]
        for (row, key) in try rendered(KeyTemplate(text), count: 3000, seed: seed) {
            let values = zip(row, named).filter(\.1).map(\.0)
            if let owner = owners[key], owner != values { return (owner, values) }
            owners[key] = values
        }
        return nil
    }

    @Test(arguments: templates)
    func differentRowsHaveDifferentKeys(text: String) throws {
        #expect(try KeyTemplate(text).isInjective)
        for seed in 1...3 as ClosedRange<UInt64> {
            let pair = try Self.collision(text, seed: seed)
            #expect(pair == nil, "seed \(seed)")
        }
    }

    /// The search finds what there is to find.
    @Test(arguments: ambiguous)
    func templatesThatAreWarnedOfDoCollide(text: String) throws {
        #expect(try !KeyTemplate(text).isInjective)
        #expect(try Self.collision(text, seed: 1) != nil)
    }

    /// A `%` begins escapes, so it keeps nothing apart.
    @Test func aPercentSignIsNoSeparator() throws {
        let template = try KeyTemplate("{a}%{b}")
        #expect(!template.isInjective)
        let made = try keys(template, letters, [["", "3A%", nil], [":", "25", nil]])
        #expect(made[0] == made[1])
    }

    @Test func whateverTemplateClaimsToKeepRowsApartDoes() throws {
        var generator = SeededGenerator(seed: 11)
        let parts = [
            "{a}", "{b}", "{c}", "{a}", "{b}", ":", "-", "%", "3A", "x", "{{", "}}", "{{x}}", "25",
        ]
        var claims = 0
        for round in 0..<600 {
            let text = (0..<Int.random(in: 2...7, using: &generator))
                .map { _ in parts.randomElement(using: &generator) ?? "" }.joined()
            guard let template = try? KeyTemplate(text), template.isInjective else { continue }
            claims += 1
            let named = ["a", "b", "c"].map { text.contains("{\($0)}") }
            var owners: [[UInt8]: [String]] = [:]
            for (row, key) in try Self.rendered(template, count: 300, seed: UInt64(round)) {
                let values = zip(row, named).filter(\.1).map(\.0)
                #expect(owners[key] == nil || owners[key] == values, "\(text)")
                owners[key] = values
                #expect(template.matches(key), "\(text)")
                #expect(slot(of: template.sideKey(of: key)) == slot(of: key), "\(text) \(key)")
            }
        }
        #expect(claims > 50)
    }

    @Test func slotsAreThoseOfTheSpecification() {
        #expect(slot(of: Array("123456789".utf8)) == 0x31C3)
        #expect(slot(of: Array("foo".utf8)) == 12182)
        #expect(slot(of: Array("{foo}:x".utf8)) == 12182)
        #expect(slot(of: Array("a{}foo".utf8)) != slot(of: Array("a{}bar".utf8)))
        #expect(slot(of: Array("x{{bar}}".utf8)) == slot(of: Array("{bar".utf8)))
    }

    @Test(arguments: templates + ambiguous)
    func aSideKeyLiesInTheSlotOfItsKeyAndIsNoRowsKey(text: String) throws {
        let template = try KeyTemplate(text)
        for (row, key) in try Self.rendered(template, count: 2000, seed: 5) {
            let side = template.sideKey(of: key)
            #expect(slot(of: side) == slot(of: key), "\(row)")
            #expect(!template.matches(side), "\(row)")
        }
    }

    @Test(arguments: templates + ambiguous)
    func everyKeyMatchesItsTemplateAndItsPattern(text: String) throws {
        let template = try KeyTemplate(text)
        let pattern = template.globPattern[...]
        for (row, key) in try Self.rendered(template, count: 1000, seed: 6) {
            #expect(template.matches(key), "\(row)")
            #expect(globMatches(pattern, key[...]), "\(row)")
            #expect(key.starts(with: template.literalPrefix))
            let hasControl = key.contains { $0 < 0x20 || $0 == 0x7F }
            #expect(!hasControl, "\(row)")
        }
    }

    /// What a key may look like, as a regular expression.
    private static let value = "(?:[^%:{}\\x00-\\x1F\\x7F]|%(?:[01][0-9A-F]|25|3A|7B|7D|7F))"

    @Test(arguments: [
        ("k{a}", "k@*"), ("{a}-{b}", "@*-@*"), ("{a}:{b}", "@*:@*"),
        ("{a}-", "@*-"), ("%{a}", "%@*"), ("{a}k{b}-k", "@*k@*-k"),
    ])
    func onlyWhatEscapingCanMakeMatches(text: String, form: String) throws {
        let template = try KeyTemplate(text)
        let regex = try Regex(form.replacing("@", with: Self.value))
        let alphabet = Array("ak-:%3A{}0f".utf8)
        var matched = 0
        var generator = SeededGenerator(seed: 8)
        for _ in 0..<4000 {
            let key = (0..<Int.random(in: 1...6, using: &generator))
                .map { _ in alphabet.randomElement(using: &generator) ?? 0 }
            let isKey = try regex.wholeMatch(in: String(decoding: key, as: UTF8.self)) != nil
            #expect(template.matches(key) == isKey, "\(String(decoding: key, as: UTF8.self))")
            if isKey { matched += 1 }
        }
        #expect(matched > 0)
    }

    @Test(arguments: [
        "", "shop:", "shop:a:b", "shop:{", "shop:%", "shop:%2", "shop:%3a", "shop:%41", "shop:\n",
        "shop:%GG", "xshop:a", "shop:a}", "sho", "shop:%7", "shop:%80",
    ])
    func othersKeysDoNotMatch(key: String) throws {
        // Of these, only the one with an empty value can be a row's.
        #expect(try KeyTemplate("shop:{a}").matches(Array(key.utf8)) == (key == "shop:"))
    }

    @Test func longKeysAreMatchedWithoutSearchingBack() throws {
        let template = try KeyTemplate("{a}-{b}-{a}-{c}-{b}-x")
        let dashes = [UInt8](repeating: UInt8(ascii: "-"), count: 20_000)
        #expect(template.matches(dashes + Array("x".utf8)))
        #expect(!template.matches(dashes))
    }
}
