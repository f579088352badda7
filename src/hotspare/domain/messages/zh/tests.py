"""恢复点演练的文本：结论，以及每项检查的结果。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "test.not-found": Text("没有演练 {test}。", "请运行：hotspare test list"),
    "test.no-screenshot": Text("演练 {test} 没有截图。"),
    "test.address": Text("{address} 不是带前缀长度的 IPv4 地址。", "例如 192.0.2.10/24。"),
    "test.failed": Text(
        "规则 {rule} 恢复点 {point} 的副本没有通过演练：{reason}。",
        "请查看其屏幕：hotspare test list {rule}。请演练更早的恢复点，并检查源虚机本身能否启动。"),
    "test.interrupted": Text(
        "副本 {name} 被他人关闭，或其主机已关闭：无法得出结论。", "请重新演练。"),
    "task.not-stoppable": Text(
        "任务 {task}（{kind}，{state}）不能按编号停止。", "请停止其规则：hotspare rule stop"),
    "screen.format": Text("平台的截图格式未知（{reason}）。"),
    "test.passed": Text("规则 {rule} 的恢复点 {point} 通过了演练。"),
    "test.unproven": Text(
        "规则 {rule} 恢复点 {point} 的副本没有异常，但也没有任何迹象表明它已启动。",
        "请查看其屏幕，或指定检查项：--check text=…、heartbeat、ping、tcp=端口。"),
    "sweep.test": Text("已清除先前演练的遗留物：{kind} {name}"),
    "sweep.test-stays": Text("演练 {name} 的遗留物无法清除：{reason}"),
    "test.isolated": Text("副本在自己的隔离网络中运行。"),
    "test.unplugged": Text("网线已拔出，因为目标端不能创建隔离网络（{reason}）。"),
    "test.heartbeat": Text("客户机代理有响应。"),
    "test.no-heartbeat": Text("客户机代理没有响应"),
    "test.no-agent": Text("未检查：虚机没有代理。"),
    "test.text-seen": Text("屏幕显示了：{text}"),
    "test.text-missing": Text("屏幕从未以文本方式显示：{text}"),
    "test.screen-lives": Text("屏幕不是空白，并且有变化。{line}"),
    "test.screen-blank": Text("屏幕是空白的"),
    "test.screen-still": Text("屏幕没有变化。{line}"),
    "test.screen-no-boot": Text("屏幕显示虚机没有启动（{words}）"),
    "test.no-screen": Text("未检查：虚机没有屏幕。"),
    "test.ping": Text("{address} 有响应。"),
    "test.no-ping": Text("副本没有任何地址响应 ping"),
    "test.tcp": Text("{address} 在端口 {port} 接受了连接。"),
    "test.no-tcp": Text("副本没有任何地址在端口 {port} 接受连接"),
    "test.not-near": Text("未检查：隔离网络在目标主机上，而灾备机不在该主机上。"),
    "test.no-network": Text("未检查：没有可以访问副本的隔离网络（{reason}）。"),
    "test.shut-down": Text("副本自行关机"),
    "test.crashed": Text("副本崩溃"),
}
