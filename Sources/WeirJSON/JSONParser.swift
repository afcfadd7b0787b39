/// A recursive-descent parser that keeps the position of every value.
///
/// It reads a configuration file once per start, so it is written to be clear, not fast.
struct JSONParser {
    /// Valid UTF-8: `JSONDocument` has checked it.
    let bytes: [UInt8]
    var offset = 0
    private var depth = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The byte at `offset`; nil at the end of the input.
    var current: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    mutating func parseDocument() throws(JSONSyntaxError) -> JSONNode {
        try skipBlanks()
        guard current != nil else { throw error("empty input, expected a value", from: offset) }
        let node = try parseValue()
        try skipBlanks()
        guard current == nil else { throw unexpected(insteadOf: "end of input after the value") }
        return node
    }

    private mutating func parseValue() throws(JSONSyntaxError) -> JSONNode {
        let start = offset
        let value: JSONNode.Value
        switch current {
        case ASCII.openBrace: value = .object(try parseMembers())
        case ASCII.openBracket: value = .array(try parseElements())
        case ASCII.quote: value = .string(try parseString())
        case let byte? where JSONNumber.startsLikeNumber(byte): value = .number(try parseNumber())
        default: value = try parseLiteral()
        }
        return JSONNode(span: SourceSpan(start: start, end: offset), value: value)
    }

    // MARK: Objects and arrays

    private mutating func parseMembers() throws(JSONSyntaxError) -> [JSONNode.Member] {
        var members: [JSONNode.Member] = []
        var hasMore = try enter(closedBy: ASCII.closeBrace)
        while hasMore {
            members.append(try parseMember())
            hasMore = try advance(pastOne: "member", closedBy: ASCII.closeBrace)
        }
        leave()
        return members
    }

    private mutating func parseElements() throws(JSONSyntaxError) -> [JSONNode] {
        var elements: [JSONNode] = []
        var hasMore = try enter(closedBy: ASCII.closeBracket)
        while hasMore {
            elements.append(try parseValue())
            hasMore = try advance(pastOne: "element", closedBy: ASCII.closeBracket)
        }
        leave()
        return elements
    }

    private mutating func parseMember() throws(JSONSyntaxError) -> JSONNode.Member {
        guard current == ASCII.quote else {
            throw unexpected(insteadOf: "a key in double quotes")
        }
        let start = offset
        let key = try parseString()
        let keySpan = SourceSpan(start: start, end: offset)
        try skipBlanks()
        guard current == ASCII.colon else {
            throw unexpected(insteadOf: "\":\" after a key")
        }
        offset += 1
        try skipBlanks()
        return JSONNode.Member(key: key, keySpan: keySpan, value: try parseValue())
    }

    /// Steps over an opening bracket. True: an element follows; false: at the closing bracket.
    private mutating func enter(closedBy close: UInt8) throws(JSONSyntaxError) -> Bool {
        depth += 1
        guard depth <= JSONDocument.depthMax else {
            throw error(
                "nested deeper than \(JSONDocument.depthMax) levels",
                from: offset,
                to: offset + 1
            )
        }
        offset += 1
        try skipBlanks()
        return current != close
    }

    /// Steps over what follows an element. True: another follows; false: at the closing bracket.
    private mutating func advance(
        pastOne element: String,
        closedBy close: UInt8
    ) throws(JSONSyntaxError) -> Bool {
        let closing = Character(Unicode.Scalar(close))
        try skipBlanks()
        if current == close { return false }
        guard current == ASCII.comma else {
            let article = element == "element" ? "an" : "a"
            throw unexpected(insteadOf: "\",\" or \"\(closing)\" after \(article) \(element)")
        }
        let comma = offset
        offset += 1
        try skipBlanks()
        guard current != close else {
            throw error("trailing comma before \"\(closing)\"", from: comma, to: comma + 1)
        }
        return true
    }

    /// Steps over the closing bracket.
    private mutating func leave() {
        offset += 1
        depth -= 1
    }

    // MARK: Scalars

    private mutating func parseNumber() throws(JSONSyntaxError) -> String {
        let start = offset
        while let byte = current, JSONNumber.continuesToken(byte) { offset += 1 }
        if let fault = JSONNumber.fault(in: bytes[start..<offset]) {
            let token = excerpt(from: start, to: offset)
            throw error("invalid number \"\(token)\": \(fault)", from: start, to: offset)
        }
        return String(decoding: bytes[start..<offset], as: UTF8.self)
    }

    private mutating func parseLiteral() throws(JSONSyntaxError) -> JSONNode.Value {
        let end = wordEnd(from: offset)
        let value: JSONNode.Value
        switch String(decoding: bytes[offset..<end], as: UTF8.self) {
        case "true": value = .bool(true)
        case "false": value = .bool(false)
        case "null": value = .null
        default: throw unexpected(insteadOf: "a value")
        }
        offset = end
        return value
    }

    // MARK: White space and comments

    private mutating func skipBlanks() throws(JSONSyntaxError) {
        while let byte = current {
            switch byte {
            case ASCII.space, ASCII.tab, ASCII.lf, ASCII.cr: offset += 1
            case ASCII.slash: try skipComment()
            default: return
            }
        }
    }

    private mutating func skipComment() throws(JSONSyntaxError) {
        let next = offset + 1
        guard next < bytes.count, bytes[next] == ASCII.slash else {
            let isBlock = next < bytes.count && bytes[next] == UInt8(ascii: "*")
            throw error(
                "found \"\(isBlock ? "/*" : "/")\", but comments begin with \"//\"",
                from: offset,
                to: isBlock ? next + 1 : next
            )
        }
        // A lone CR ends the comment too: an editor shows what follows it as a line of its own, and
        // what looks like configuration must not be skipped in silence.
        while let byte = current, byte != ASCII.lf, byte != ASCII.cr {
            if byte < ASCII.space, byte != ASCII.tab {
                throw error(
                    "control character \(describe(byte)) in a comment",
                    from: offset,
                    to: offset + 1
                )
            }
            offset += 1
        }
    }
}
