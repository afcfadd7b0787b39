/// The grammar of a JSON number: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
enum JSONNumber {
    /// `+` and `.` start no JSON number, but whoever wrote them meant one and is told so.
    static func startsLikeNumber(_ byte: UInt8) -> Bool {
        ASCII.isDigit(byte) || byte == ASCII.minus || byte == ASCII.plus || byte == ASCII.dot
    }

    /// True for every byte that a reader would take for part of the same number.
    static func continuesToken(_ byte: UInt8) -> Bool {
        startsLikeNumber(byte) || ASCII.isLetter(byte) || byte == UInt8(ascii: "_")
    }

    /// Says what is wrong with a number; nil if it is one.
    static func fault(in token: ArraySlice<UInt8>) -> String? {
        var rest = token
        if rest.first == ASCII.plus { return "it has a leading plus sign" }
        if rest.first == ASCII.minus { rest.removeFirst() }
        let whole = takeDigits(from: &rest)
        if whole.isEmpty { return "a digit is missing before \(describeStart(of: rest))" }
        if whole.count > 1, whole.first == ASCII.zero { return "it has a leading zero" }
        if rest.first == ASCII.dot {
            rest.removeFirst()
            if takeDigits(from: &rest).isEmpty { return "a digit is missing after \".\"" }
        }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest.removeFirst()
            if rest.first == ASCII.plus || rest.first == ASCII.minus { rest.removeFirst() }
            if takeDigits(from: &rest).isEmpty { return "a digit is missing in the exponent" }
        }
        return rest.isEmpty ? nil : "found \(describeStart(of: rest)) in it"
    }

    private static func takeDigits(from rest: inout ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let digits = rest.prefix(while: ASCII.isDigit)
        rest = rest.dropFirst(digits.count)
        return digits
    }

    /// Every byte of a token is printable ASCII: see `continuesToken`.
    private static func describeStart(of rest: ArraySlice<UInt8>) -> String {
        guard let byte = rest.first else { return "its end" }
        return "\"\(Character(Unicode.Scalar(byte)))\""
    }
}
