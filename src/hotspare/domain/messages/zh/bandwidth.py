"""带宽时段、因此暂停的传输，以及数据的传输方式。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "bandwidth.ranges": Text(
        "给出了 {count} 个带宽时段，最多 {largest} 个。",
        "请合并限速相同的时段：一个时段可以包含多天。"),
    "bandwidth.days": Text(
        "带宽时段需要指定星期，且每天只写一次。",
        "请给出一天或多天：1 为星期一，7 为星期日。"),
    "bandwidth.times": Text(
        "带宽时段不能从当天第 {start} 分钟到第 {end} 分钟。",
        "请给出 0 到 {largest} 之间的分钟，结束须晚于开始；跨午夜的时段请写成两个。"),
    "bandwidth.limit": Text(
        "{value} 不是有效的带宽限制。",
        "请给出每秒字节数，从 0（停止传输）到 {largest}。"),
    "bandwidth.overlap": Text(
        "两个带宽时段在每周第 {day} 天 {time} 重叠。",
        "每个时间只能有一个限制。"),
    "pause.rule": Text(
        "因规则的带宽时段而暂停，直到 {until:time}。已传输的数据予以保留。",
        "如需立即继续，请修改规则的带宽时段。"),
    "pause.machine": Text(
        "因灾备机的带宽时段而暂停，直到 {until:time}。已传输的数据予以保留。",
        "如需立即继续，请修改灾备机的带宽时段。"),
    "pause.rule-no-end": Text(
        "因规则的带宽时段而暂停，没有结束时间。已传输的数据予以保留。",
        "如需继续，请修改规则的带宽时段。"),
    "pause.machine-no-end": Text(
        "因灾备机的带宽时段而暂停，没有结束时间。已传输的数据予以保留。",
        "如需继续，请修改灾备机的带宽时段。"),
    "pause.over": Text("暂停结束，任务继续。"),
    "source.paused-too-long": Text("暂停时间过长，不再保留源端的一致性时间点。"),
    "tracking.off": Text("快速传输已关闭：读取并比较所有已用数据，只发送有差异的部分。"),
    "transport.lan-free-unavailable": Text("此平台不支持 LAN-free 传输：改用网络传输。"),
}
