import WeirJSON

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
