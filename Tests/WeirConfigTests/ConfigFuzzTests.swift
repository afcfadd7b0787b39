import Testing
import WeirConfig
import WeirJSON
import WeirTesting

/// Files nobody wrote: none may trap, and each ends either as a configuration or with an error.
@Suite struct ConfigFuzzTests {
    private static let sample = """
        { "$schema": "x", "daemon": { "shutdown_timeout": "45s", "log": "json" }, // comment
          "connections": { "shop": { "type": "shopdb", "url": "shop://u:canary@h" },
            "events": { "type": "bus", "url": { "file": "/s" }, "password": { "env": "SHOP_URL" } } },
          "pipelines": { "p": {
            "source": { "connection": "shop", "tables": ["orders", "s.\\"a.b\\""], "fetch": 5 },
            "sinks": { "out": { "type": "lines", "path": "a", "queue": "64KiB",
                "columns": { "é": "name" }, "operations": ["insert"] },
              "bus": { "connection": "events", "topic": "t", "ttl": "5m",
                "text": { "A": ["a"], "rank": { "scale": "log" } } } } } } }
        """
    private static let environment = ConfigEnvironment.fake(
        ["SHOP_URL": "shop://x"], files: ["/s": [0x78]])

    @Test func theSampleIsGood() {
        #expect(outcome(of: Array(Self.sample.utf8)).configuration != nil)
    }

    @Test func everyPrefixEndsWithAnError() {
        let bytes = Array(Self.sample.utf8)
        for count in bytes.indices { check(Array(bytes.prefix(count))) }
    }

    @Test func mutatedBytesNeverTrap() {
        let original = Array(Self.sample.utf8)
        var generator = SeededGenerator(seed: 11)
        var good = 0
        for _ in 0..<2000 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let offset = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[offset] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: offset)
                default: bytes.insert(UInt8.random(in: 32...126, using: &generator), at: offset)
                }
            }
            if check(bytes) { good += 1 }
        }
        #expect(good > 0 && good < 2000)
    }

    /// Mutations that keep the file JSON get past the parser, to where the checks are.
    @Test func swappedTokensNeverTrap() {
        let tokens = Self.tokens()
        let values = [
            "null", "true", "-5", "1e9", "\"\"", "\"x\"", "[]", "{}", "[[1]]", "{\"env\": \"X\"}",
            "\"8MiB\"", "\"\\u0000\"", "{\"type\": \"lines\"}", "\"\u{202E}\"", "[\"a\", \"a\"]",
            "123456789012345678901234567890",
        ]
        let places = tokens.indices.filter { !["{", "}", "[", "]", ",", ":"].contains(tokens[$0]) }
        let strings = tokens.filter { $0.hasPrefix("\"") }
        var generator = SeededGenerator(seed: 12)
        var refused = 0
        for _ in 0..<600 {
            var mutated = tokens
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                guard let place = places.randomElement(using: &generator) else { continue }
                let isKey = place + 1 < tokens.count && tokens[place + 1] == ":"
                let pool = isKey ? strings : values + strings
                mutated[place] = pool.randomElement(using: &generator) ?? "1"
            }
            if !check(Array(mutated.joined(separator: " ").utf8)) { refused += 1 }
        }
        #expect(refused > 300)
    }

    /// True if the bytes were accepted.
    @discardableResult
    private func check(_ bytes: [UInt8]) -> Bool {
        let outcome = outcome(of: bytes)
        #expect((outcome.configuration == nil) == (outcome.errorCount > 0))
        let shown = outcome.rendered()
        #expect(shown.isEmpty == outcome.diagnostics.isEmpty)
        for diagnostic in outcome.diagnostics {
            let span = diagnostic.span
            #expect(span.map { $0.start >= 0 && $0.end <= bytes.count } != false)
            #expect(!diagnostic.message.isEmpty && diagnostic.message.last != ".")
        }
        return outcome.configuration != nil
    }

    private func outcome(of bytes: [UInt8]) -> ConfigCheck {
        loader.check(bytes: bytes, fileName: "fuzz.json", environment: Self.environment)
    }

    /// The sample without its comment, cut into strings, punctuation and the rest.
    private static func tokens() -> [String] {
        var tokens: [String] = []
        var rest = sample.replacing("// comment", with: "")[...]
        while let first = rest.first {
            var length = 1
            if first == "\"" {
                var isEscaped = false
                for character in rest.dropFirst() {
                    length += 1
                    if character == "\"" && !isEscaped { break }
                    isEscaped = character == "\\" && !isEscaped
                }
            } else if first.isNumber {
                length = rest.prefix { $0.isNumber }.count
            }
            if !first.isWhitespace { tokens.append(String(rest.prefix(length))) }
            rest = rest.dropFirst(length)
        }
        return tokens
    }
}
