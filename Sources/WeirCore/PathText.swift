/// A path as the configuration writes it: `name.en`, `variants.0.stock`; a part in double quotes
/// where a name holds a dot of its own (`"price.usd"`, `totals."net.eur"`), a quote in it doubled.
public enum PathText {
    /// The names along the path; nil when a part begins with a quote that is not closed, or goes on
    /// behind it, and when there is no text.
    public static func parts(_ text: String) -> [String]? {
        if text.isEmpty { return nil }
        var parts: [String] = []
        var rest = text.unicodeScalars[...]
        while true {
            var part = String.UnicodeScalarView()
            if rest.first == "\"" {
                rest.removeFirst()
                while true {
                    guard let scalar = rest.popFirst() else { return nil }
                    if scalar == "\"" {
                        if rest.first != "\"" { break }
                        rest.removeFirst()
                    }
                    part.append(scalar)
                }
                if let next = rest.first, next != "." { return nil }
            } else {
                while let scalar = rest.first, scalar != "." {
                    part.append(scalar)
                    rest.removeFirst()
                }
            }
            parts.append(String(part))
            if rest.popFirst() == nil { return parts }
        }
    }

    /// The name that a value gets which is chosen by this path and not named otherwise.
    public static func name(_ text: String) -> String {
        parts(text)?.joined(separator: ".") ?? text
    }
}
