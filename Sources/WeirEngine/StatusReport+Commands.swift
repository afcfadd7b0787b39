package import WeirCore

extension StatusReport {
    /// With the commands of its hints as they work here.
    package func completed(by commands: OperatorCommands) -> StatusReport {
        var report = self
        for index in report.pipelines.indices {
            report.pipelines[index].complete(commands, besideDaemon: isRunning)
        }
        for index in report.orphans.indices { report.orphans[index].complete(commands) }
        return report
    }
}

extension PipelineReport {
    fileprivate mutating func complete(_ commands: OperatorCommands, besideDaemon: Bool) {
        func completed(_ text: String) -> String {
            commands.completed(text, besideDaemon: besideDaemon)
        }
        for index in problems.indices {
            problems[index].hint = problems[index].hint.map(completed)
            problems[index].note = problems[index].note.map(completed)
        }
        for index in findings.indices {
            findings[index].hint = findings[index].hint.map(completed)
        }
        for index in gaps.indices { gaps[index].hint = completed(gaps[index].hint) }
    }
}

extension OrphanReport {
    /// What no daemon runs is dropped beside one.
    fileprivate mutating func complete(_ commands: OperatorCommands) {
        for index in gaps.indices {
            gaps[index].hint = commands.completed(gaps[index].hint, besideDaemon: false)
        }
    }
}

extension GapRow {
    package func completed(by commands: OperatorCommands, besideDaemon: Bool) -> GapRow {
        var row = self
        row.hint = commands.completed(hint, besideDaemon: besideDaemon)
        return row
    }
}
