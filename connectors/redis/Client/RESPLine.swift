import NIOCore

/// What stands in one line of RESP, its type and CRLF taken off.
enum RESPLine {
    static func isKind(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "$"),
            UInt8(ascii: "*"), UInt8(ascii: "_"), UInt8(ascii: ","), UInt8(ascii: "#"),
            UInt8(ascii: "("), UInt8(ascii: "!"), UInt8(ascii: "="), UInt8(ascii: "%"),
            UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "|"):
            true
        default: false
        }
    }

    /// The value of a type that is one line.
    static func value(_ kind: UInt8, _ text: ByteBuffer) throws(MalformedRESP) -> RESPValue {
        switch kind {
        case UInt8(ascii: "+"): return .simple(try line(text))
        case UInt8(ascii: "-"): return .error(RESPError(try line(text)))
        case UInt8(ascii: ":"):
            guard let number = integer(text) else { throw MalformedRESP("not an integer") }
            return .integer(number)
        case UInt8(ascii: "_"):
            guard text.readableBytes == 0 else { throw MalformedRESP("a null with a value") }
            return .null
        case UInt8(ascii: "#"):
            switch String(buffer: text) {
            case "t": return .boolean(true)
            case "f": return .boolean(false)
            default: throw MalformedRESP("not a boolean")
            }
        case UInt8(ascii: ","): return .double(try double(String(buffer: text)))
        default: return .bigNumber(try bigNumber(String(buffer: text)))
        }
    }

    /// A length: digits only. Nil for anything else, and for what does not fit.
    static func count(_ text: ByteBuffer) -> Int? {
        // Eighteen digits fit in an Int, whatever they are.
        guard 1...18 ~= text.readableBytes else { return nil }
        var count = 0
        for byte in text.readableBytesView {
            guard isDigit(byte) else { return nil }
            count = count * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return count
    }

    static func isMinusOne(_ text: ByteBuffer) -> Bool {
        text.readableBytesView.elementsEqual("-1".utf8)
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
    }

    private static func line(_ text: ByteBuffer) throws(MalformedRESP) -> String {
        guard !text.readableBytesView.contains(UInt8(ascii: "\n")) else {
            throw MalformedRESP("a line has a line feed in it")
        }
        return String(buffer: text)
    }

    private static func integer(_ text: ByteBuffer) -> Int64? {
        var digits = text.readableBytesView[...]
        let sign = digits.first
        let isNegative = sign == UInt8(ascii: "-")
        if isNegative || sign == UInt8(ascii: "+") { digits = digits.dropFirst() }
        guard !digits.isEmpty else { return nil }
        var number: Int64 = 0
        for byte in digits {
            guard isDigit(byte) else { return nil }
            let digit = Int64(byte - UInt8(ascii: "0"))
            let (tenfold, tooBig) = number.multipliedReportingOverflow(by: 10)
            // Towards its sign, because the least Int64 has no positive counterpart.
            let (sum, overflow) =
                isNegative
                ? tenfold.subtractingReportingOverflow(digit)
                : tenfold.addingReportingOverflow(digit)
            if tooBig || overflow { return nil }
            number = sum
        }
        return number
    }

    private static func double(_ text: String) throws(MalformedRESP) -> Double {
        switch text {
        case "inf", "+inf": return .infinity
        case "-inf": return -.infinity
        case "nan", "-nan": return .nan
        default:
            // Swift reads more than RESP has, such as hexadecimal.
            guard text.utf8.allSatisfy({ isDigit($0) || "+-.eE".utf8.contains($0) }),
                let number = Double(text)
            else { throw MalformedRESP("not a double") }
            return number
        }
    }

    private static func bigNumber(_ text: String) throws(MalformedRESP) -> String {
        let hasSign = text.hasPrefix("-") || text.hasPrefix("+")
        let digits = text.utf8.dropFirst(hasSign ? 1 : 0)
        guard !digits.isEmpty, digits.allSatisfy(isDigit) else {
            throw MalformedRESP("not a big number")
        }
        return text
    }
}
