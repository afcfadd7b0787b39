import WeirJSON

/// A small seeded generator, so that a failing case can be run again: SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

func parse(_ text: String) throws -> JSONNode {
    try JSONDocument.parse(Array(text.utf8))
}

/// The error a text is refused with; nil if it is accepted.
func refusal(of bytes: [UInt8]) -> JSONSyntaxError? {
    do throws(JSONSyntaxError) {
        _ = try JSONDocument.parse(bytes)
        return nil
    } catch {
        return error
    }
}

func refusal(of text: String) -> JSONSyntaxError? {
    refusal(of: Array(text.utf8))
}

/// What a writer holds after `body`.
func written(capacity: Int = 64, _ body: (inout JSONWriter) -> Void) -> [UInt8] {
    var writer = JSONWriter(capacity: capacity)
    body(&writer)
    return unsafe writer.withBytes { unsafe Array($0) }
}

func writtenText(_ body: (inout JSONWriter) -> Void) -> String {
    String(decoding: written(body), as: UTF8.self)
}
