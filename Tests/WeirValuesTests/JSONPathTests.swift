import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

/// Values inside JSON columns. PostgreSQL 15's `->` and `->>` gave the expected values.
struct JSONPathTests {
    private func found(_ path: String, _ json: String) -> String? {
        plain(path, .text(json), .jsonb)?.bytes.map { String(decoding: $0, as: UTF8.self) }
    }

    private func outcome(_ path: String, _ json: String) -> PlainRenderer.Outcome? {
        plain(path, .text(json), .jsonb)?.outcome
    }

    @Test(arguments: [
        ("c.a", #"{"a":1}"#, "1"),
        ("c.a", " \t\r\n{ \"b\" : [ 1 , {} ] , \"a\"\n:\t-1.50e+3 } ", "-1.50e+3"),
        ("c.a.b", #"{"a":{"b":true}}"#, "true"),
        (
            "c.v.1.stock", #"{"v":[{"stock":1},{"stock":123456789012345678901}]}"#,
            "123456789012345678901"
        ),
        ("c.0", "[[1, 2],3]", "[1, 2]"),
        ("c.2", "[1,[2,3],false]", "false"),
        ("c.a", #"{"a": {"b": [1, "x"]} }"#, #"{"b": [1, "x"]}"#),
        ("c.0", #"{"0":"name"}"#, "name"),
        ("c.", #"{"":5}"#, "5"),
        ("c.a", #"{"b":"}\",\"a\":1","a":"\\"}"#, "\\"),
        ("c.a.b", #"{"a.b":1,"a":{"b":2}}"#, "2"),
    ])
    func aPathLeadsToItsValue(path: String, json: String, text: String) {
        #expect(found(path, json) == text)
    }

    @Test(arguments: [
        (#"{"a":1,"a":2}"#, "2"), (#"{"a":1,"\u0061":2}"#, "2"), (#"{"\u0061":1,"b":2}"#, "1"),
    ])
    func ofMembersWithOneNameTheLastCounts(json: String, text: String) {
        #expect(found("c.a", json) == text)
    }

    @Test func theLastMemberCountsAlsoWhenItIsNullOrLacksTheRest() {
        #expect(outcome("c.a", #"{"a":1,"a":null}"#) == .null)
        #expect(outcome("c.a.b", #"{"a":{"b":1},"a":{}}"#) == .absent)
    }

    @Test(arguments: [
        ("c.😀", #"{"\ud83d\ude00":7}"#), ("c.😀", #"{"😀":7}"#), ("c.é", #"{"\u00E9":7}"#),
        (#"c.a"b\c/"#, #"{"a\"b\\c\/":7}"#), ("c.\n\t\u{8}\u{C}\r", #"{"\n\t\b\f\r":7}"#),
        (#"c.\ud800"#, #"{"\ud800":7}"#),
    ])
    func namesAreComparedAsTheyAreMeant(path: String, json: String) {
        #expect(found(path, json) == "7")
        // A beginning and a longer name are other names.
        #expect(outcome(path + "x", json) == .absent)
        #expect(outcome(String(path.dropLast()), json) == .absent)
    }

    @Test(arguments: [
        (#"{"a":"é😀"}"#, "é😀"), (#"{"a":"\u00e9\uD83D\uDE00"}"#, "é😀"), (#"{"a":""}"#, ""),
        (#"{"a":"\"\\\/\b\f\n\r\t"}"#, "\"\\/\u{8}\u{C}\n\r\t"), (#"{"a":"\u0000|"}"#, "\0|"),
        (#"{"a":"x\u0041y"}"#, "xAy"),
    ])
    func stringsComeWithoutQuotesAndEscapes(json: String, text: String) {
        #expect(found("c.a", json) == text)
    }

    /// PostgreSQL's json type lets half a surrogate pair through, and its `->>` fails on it.
    @Test(arguments: [
        #"\ud800"#, #"\udc00"#, #"x\uD83Dy"#, #"\ud83d\ud83d"#, #"\ud83d\n"#, #"\udc00\ud800"#,
        #"\ud83d\u0041"#,
    ])
    func halfASurrogatePairStaysAsItIsWritten(escape: String) {
        let shown = escape.replacing(#"\n"#, with: "\n").replacing(#"\u0041"#, with: "A")
        #expect(found("c.a", #"{"a":"\#(escape)"}"#) == shown)
    }

    @Test(arguments: [
        ("c.a", "{}"), ("c.a", "[]"), ("c.a", "1"), ("c.a", #""a""#), ("c.a", "null"),
        ("c.0", "[]"), ("c.1", "[1]"), ("c.-1", "[1]"), ("c.+0", "[1]"), ("c.00", "[1]"),
        ("c.0x0", "[1]"), ("c.99999999999999999999", "[1]"), ("c.a.b", #"{"a":1}"#),
        ("c.a.b", #"{"a":null}"#), ("c.", "[1]"), ("c.a.", #"{"a":{}}"#), ("c.A", #"{"a":1}"#),
    ])
    func whatIsNotThereIsAbsent(path: String, json: String) {
        #expect(outcome(path, json) == .absent)
    }

    @Test func nullIsNotAbsent() {
        #expect(outcome("c.a", #"{"a": null }"#) == .null)
        #expect(outcome("c.1", "[1,null]") == .null)
        #expect(plain("c.a", nil, .jsonb)?.outcome == .null)
        #expect(plain("c.a", .unchanged, .jsonb)?.outcome == .unchanged)
    }

    @Test func depthCostsNoStack() {
        let depth = 10_000
        let nest = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        #expect(found("c.a", #"{"deep":\#(nest),"a":1}"#) == "1")
        #expect(found("c.deep", #"{"deep":\#(nest),"a":1}"#) == nest)
        let objects =
            String(repeating: #"{"k":"#, count: depth) + "0" + String(repeating: "}", count: depth)
        #expect(found("c.1", "[\(objects),2]") == "2")
        let path = "c" + String(repeating: ".k", count: 200)
        #expect(found(path, objects)?.utf8.count == objects.utf8.count - 200 * 6)
    }

    @Test func everyPrefixAndMutationEndsInsideTheText() {
        let sample =
            #"{"a":{"b":[1,{"c":"x\ud83d\ude00\"\\"},null]},"\u0062":"\u00e9","z":-1.5e+7}"#
        let paths = ["c.a", "c.a.b", "c.a.b.1.c", "c.b", "c.z", "c.a.b.2", "c.q", "c.0"]
        // The text is the whole arena, so a step outside of it traps.
        for count in 0...sample.utf8.count {
            for path in paths { check(path, Array(sample.utf8.prefix(count))) }
        }
        var generator = SeededGenerator(seed: 7)
        var written = 0
        let hostile = Array("\"\\{}[]:,u0n d8".utf8)
        for _ in 0..<6000 {
            var bytes = Array(sample.utf8)
            for _ in 0..<Int.random(in: 1...5, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                let byte = hostile.randomElement(using: &generator) ?? 0
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[place] = byte
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(byte, at: place)
                default: bytes.removeLast(bytes.count - place)
                }
                if bytes.isEmpty { bytes = [byte] }
            }
            for path in paths where check(path, bytes) { written += 1 }
        }
        #expect(written > 1000 && written < 6000 * paths.count, "both outcomes occur")
    }

    /// Whether something was found; what is written is never longer than the text.
    @discardableResult
    private func check(_ path: String, _ bytes: [UInt8]) -> Bool {
        let json = String(decoding: bytes, as: UTF8.self)
        guard let result = plain(path, .text(json), .jsonb) else { return false }
        #expect((result.outcome == .written) == (result.bytes != nil))
        #expect((result.bytes?.count ?? 0) <= json.utf8.count)
        return result.bytes != nil
    }
}
