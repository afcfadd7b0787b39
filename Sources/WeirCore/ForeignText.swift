/// What another program said, made fit for a message of ours: short, one line, and without
/// characters that would act on the terminal or hide the order of what is read.
public enum ForeignText {
    /// Of one text. A server's message has a few hundred bytes; a hostile one has any number, and
    /// each would be logged, stored and shown again.
    public static let bytesMax = 2048

    /// Beyond `bytesMax` the text is cut, which is said. A text that is fit already stays equal.
    public static func visible(_ text: String) -> String {
        if isFit(text) { return text }
        var shown = ""
        var count = 0
        var isBehindBreak = false
        for scalar in text.unicodeScalars {
            if count >= bytesMax {
                shown += cutMark
                break
            }
            let isBreak = scalar == "\n" || scalar == "\r"
            if isBreak {
                if !isBehindBreak { append("; ", to: &shown, &count) }
            } else if scalar == "\t" || scalar == " " {
                // A line that goes on below is indented.
                if isBehindBreak { continue }
                append(" ", to: &shown, &count)
            } else if acts(scalar) {
                append(name(of: scalar), to: &shown, &count)
            } else {
                append(String(scalar), to: &shown, &count)
            }
            isBehindBreak = isBreak
        }
        return shown
    }

    private static let cutMark = " … (cut)"

    private static func append(_ piece: String, to text: inout String, _ count: inout Int) {
        text += piece
        count += piece.utf8.count
    }

    private static func isFit(_ text: String) -> Bool {
        let bytes = text.utf8
        // One that was cut already is a little longer.
        guard bytes.count <= bytesMax || text.hasSuffix(cutMark) && bytes.count < bytesMax + 32
        else { return false }
        return text.unicodeScalars.allSatisfy { !acts($0) }
    }

    /// Control characters of both sets, line breaks of Unicode, and what changes the direction of
    /// text.
    public static func acts(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x20...0x7E: false
        case 0...0x9F, 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF,
            0xFFF9...0xFFFB, 0xE0000...0xE007F:
            true
        default: false
        }
    }

    /// What stands in the place of a character that acts, such as `<U+001B>`.
    public static func name(of scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16, uppercase: true)
        return "<U+\(String(repeating: "0", count: max(0, 4 - digits.utf8.count)))\(digits)>"
    }

    /// Such a character in a JSON string: an escape for each unit of UTF-16.
    public static func escape(of scalar: Unicode.Scalar) -> String {
        String(scalar).utf16.map { unit in
            let digits = String(unit, radix: 16)
            return "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
        }.joined()
    }
}
