import WeirCore

/// Text from a file or a server made safe for a terminal: what cannot be seen, or would act, is
/// shown instead. What acts is `ForeignText`'s to say; what cannot be seen is more than that.
package enum VisibleText {
    /// One scalar as it is printed, and how many columns of a terminal it takes.
    struct Cell {
        let text: String
        let width: Int
    }

    package static func of(_ text: String) -> String {
        text.unicodeScalars.map { cell($0).text }.joined()
    }

    /// The same for text of several lines, which stay lines.
    package static func ofLines(_ text: String) -> String {
        text.unicodeScalars.map { $0 == "\n" ? "\n" : cell($0).text }.joined()
    }

    /// JSON with the same meaning and nothing in it that would act on a terminal: such a character
    /// can only stand in a string, where its escape says the same.
    package static func json(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            if scalar == "\n" || cell(scalar).text == String(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                result += ForeignText.escape(of: scalar)
            }
        }
        return result
    }

    package static func width(_ text: String) -> Int {
        text.unicodeScalars.reduce(0) { $0 + cell($1).width }
    }

    static func cell(_ scalar: Unicode.Scalar) -> Cell {
        switch scalar.value {
        case 0x20...0x7E: return Cell(text: String(scalar), width: 1)
        // The control pictures of Unicode: U+0007 is shown as ␇.
        case 0...0x1F: return picture(0x2400 + scalar.value)
        case 0x7F: return picture(0x2421)
        default: break
        }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse:
            return named(scalar)
        case _ where ForeignText.acts(scalar): return named(scalar)
        case .nonspacingMark, .enclosingMark: return Cell(text: String(scalar), width: 0)
        default: return Cell(text: String(scalar), width: isWide(scalar.value) ? 2 : 1)
        }
    }

    private static func named(_ scalar: Unicode.Scalar) -> Cell {
        let name = ForeignText.name(of: scalar)
        return Cell(text: name, width: name.utf8.count)
    }

    private static func picture(_ value: UInt32) -> Cell {
        Cell(text: Unicode.Scalar(value).map { String($0) } ?? "?", width: 1)
    }

    /// The blocks of East Asian scripts and emoji that terminals draw two columns wide.
    private static func isWide(_ value: UInt32) -> Bool {
        switch value {
        case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
            0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F900...0x1F9FF,
            0x20000...0x3FFFD:
            true
        default: false
        }
    }
}
