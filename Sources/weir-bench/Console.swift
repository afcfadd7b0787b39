import Glibc

/// Progress and tables, out at once.
struct Console: Sendable {
    /// True keeps stdout free for the JSON report.
    let isQuiet: Bool

    func line(_ text: String) {
        Self.write(text, to: isQuiet ? STDERR_FILENO : STDOUT_FILENO)
    }

    static func warn(_ text: String) { write(text, to: STDERR_FILENO) }

    private static func write(_ text: String, to descriptor: Int32) {
        let bytes = Array((text + "\n").utf8)
        _ = unsafe Glibc.write(descriptor, bytes, bytes.count)
    }
}

func pad(_ text: String, to width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
}

/// Cells right-aligned in columns of these widths.
func tableRow(_ cells: [String], _ widths: [Int]) -> String {
    zip(cells, widths).map { cell, width in
        String(repeating: " ", count: max(1, width - cell.count)) + cell
    }
    .joined()
}
